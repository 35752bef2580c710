package netavark

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
)

// fake is an agent that has the networks it is given and takes every request.
type fake struct {
	networks map[string]api.Network
	created  api.NetworkCreateRequest
	attached api.AttachRequest
	detached api.ContainerRef
	err      error // of attach and detach
}

func (f *fake) Network(_ context.Context, name string) (api.Network, error) {
	n, ok := f.networks[name]
	if !ok {
		return n, api.Errorf(api.KindNotFound, "no network %s", name)
	}
	return n, nil
}

func (f *fake) NetworkCreate(_ context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	f.created = r
	return api.NetworkCreateResult{Network: weft(r.Name, "10.64.0.0/20", "10.64.0.1")}, nil
}

func (f *fake) Attach(_ context.Context, r api.AttachRequest) (api.Attachment, error) {
	f.attached = r
	return api.Attachment{Name: r.Name, Network: r.Network, Address: "10.64.0.5/20", Gateway: "10.64.0.1", DNS: []string{"10.64.0.1"},
		Search: []string{"blue.weft.internal", "weft.internal"}, MAC: "0e:00:0a:40:00:05", MTU: 1450, Interface: r.Ifname}, f.err
}

func (f *fake) DetachContainer(_ context.Context, c api.ContainerRef) error {
	f.detached = c
	return f.err
}

func weft(name, cidr, gateway string) api.Network {
	return api.Network{Name: name, IPAM: api.IPAM{Config: []api.IPAMConfig{{Subnet: cidr, Gateway: gateway}}}}
}

// run serves one call and returns what podman would read.
func run(t *testing.T, f *fake, stdin string, args ...string) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	p := Plugin{Dial: func(string) Agent { return f }, Stdin: strings.NewReader(stdin), Stdout: &out}
	ok := p.Run(args)
	return out.String(), ok
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// podmansNetwork is what `podman network create -d weft blue` gives to create,
// all keys of plugin-API.md and one that came later.
const podmansNetwork = `{"name": "blue", "id": "16477688c0e00699c6cfa4497a3612d7e83c532062b64b250fed8908128ed548", "driver": "weft",
	"network_interface": "podman3", "created": "2026-01-02T03:04:05Z", "subnets": %s, "ipv6_enabled": false, "internal": false,
	"dns_enabled": true, "ipam_options": {"driver": "host-local"}, "options": %s, "network_dns_servers": null}`

func podmans(subnets, options string) string {
	return strings.NewReplacer(`"subnets": %s`, `"subnets": `+subnets, `"options": %s`, `"options": `+options).Replace(podmansNetwork)
}

func TestCreateAdoptsTheClustersNetwork(t *testing.T) {
	f := &fake{networks: map[string]api.Network{"blue": weft("blue", "10.64.0.0/20", "10.64.0.1")}}
	out, ok := run(t, f, podmans("[]", "null"), "create")
	if !ok {
		t.Fatal(out)
	}
	want := decoded(t, podmans(`[{"subnet": "10.64.0.0/20", "gateway": "10.64.0.1"}]`, "null")).(map[string]any)
	want["dns_enabled"] = false                             // ours answers
	want["ipam_options"] = map[string]any{"driver": "none"} // ours hands out
	if diff := cmp.Diff(want, decoded(t, out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if f.created.Name != "" {
		t.Errorf("created %+v", f.created)
	}
}

func TestCreateMakesTheClustersNetwork(t *testing.T) {
	f := &fake{}
	out, ok := run(t, f, podmans(`[{"subnet": "10.64.0.0/20", "gateway": "10.64.0.1", "lease_range": null}]`,
		`{"mtu": "1400", "network": "shop", "socket": "/tmp/agentd.sock"}`), "create")
	if !ok {
		t.Fatal(out)
	}
	want := api.NetworkCreateRequest{Name: "shop", Subnets: []string{"10.64.0.0/20"}, Gateways: []string{"10.64.0.1"},
		Options: map[string]string{"mtu": "1400"}}
	if diff := cmp.Diff(want, f.created); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := decoded(t, out).(map[string]any); got["name"] != "blue" || got["driver"] != "weft" {
		t.Errorf("podman's own name and driver must stay: %v", got)
	}
}

// podmansContainer is what `podman run` gives to setup and teardown.
func podmansContainer(ports, options string) string {
	return `{"container_id": "752947ff91f961eb", "container_name": "Web.1", "port_mappings": ` + ports + `,
		"network": ` + podmans(`[{"subnet": "10.64.0.0/20", "gateway": "10.64.0.1"}]`, "null") + `, "network_options": ` + options + `}`
}

func TestSetupAttaches(t *testing.T) {
	f := &fake{}
	out, ok := run(t, f, podmansContainer("null", `{"aliases": ["db", "752947ff91f9", "web-1"], "interface_name": "eth0",
		"static_ips": ["10.64.0.5"], "static_mac": "0e:00:0a:40:00:05", "options": null}`), "setup", "/run/netns/netns-1")
	if !ok {
		t.Fatal(out)
	}
	want := api.AttachRequest{Network: "blue", Netns: "/run/netns/netns-1", Name: "web-1", Aliases: []string{"web.1", "db", "752947ff91f9"}, IP: "10.64.0.5",
		MAC: "0e:00:0a:40:00:05", Ifname: "eth0", Runtime: "podman", Container: "752947ff91f961eb"}
	if diff := cmp.Diff(want, f.attached); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	answer := decoded(t, `{"dns_search_domains": ["blue.weft.internal", "weft.internal"], "dns_server_ips": ["10.64.0.1"],
		"interfaces": {"eth0": {"mac_address": "0e:00:0a:40:00:05", "subnets": [{"gateway": "10.64.0.1", "ipnet": "10.64.0.5/20"}]}}}`)
	if diff := cmp.Diff(answer, decoded(t, out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTeardownSaysNothing(t *testing.T) {
	f := &fake{}
	out, ok := run(t, f, podmansContainer("null", `{"interface_name": "eth0"}`), "teardown", "/run/netns/netns-1")
	if want := (api.ContainerRef{Network: "blue", Container: "752947ff91f961eb", Ifname: "eth0"}); !ok || out != "" || f.detached != want {
		t.Errorf("ok %v, %q, detached %+v", ok, out, f.detached)
	}
}

func TestInfoHasTheVersionOfTheAPI(t *testing.T) {
	for _, args := range [][]string{{"info"}, nil} {
		out, ok := run(t, &fake{}, "", args...)
		if got := decoded(t, out).(map[string]any); !ok || got["api_version"] != "1.0.0" || got["version"] != api.Release() {
			t.Errorf("%v: %v", args, got)
		}
	}
}

func TestErrorsAreOneSentenceForPodman(t *testing.T) {
	eth0 := `{"interface_name": "eth0"}`
	for _, tt := range []struct {
		what, stdin string
		args        []string
		want        string
	}{
		{"an unknown verb", "", []string{"destroy"}, `unknown subcommand "destroy"`},
		{"no namespace", podmansContainer("null", eth0), []string{"setup"}, "network namespace is missing"},
		{"no JSON", "{", []string{"create"}, "stdin: unexpected EOF"},
		{"nothing at all", "null", []string{"create"}, "no name"},
		{"no container", `{"network": {"name": "blue"}, "network_options": {"interface_name": "eth0"}}`, []string{"teardown", "/n"}, "container_id is missing"},
		{"other subnets than the cluster's", podmans(`[{"subnet": "10.99.0.0/24"}]`, "null"), []string{"create"},
			"the cluster's network blue has 10.64.0.0/20 gateway 10.64.0.1; hint: podman network create -d weft blue"},
		{"a range of podman's", podmans(`[{"subnet": "10.64.0.0/20", "lease_range": {"start_ip": "10.64.0.9"}}]`, "null"), []string{"create"}, "--ip-range"},
		{"two addresses", podmansContainer("null", `{"interface_name": "eth0", "static_ips": ["10.64.0.5", "2001:db8::5"]}`), []string{"setup", "/n"}, "one address"},
		{"ports that are none", podmansContainer(`[{"host_port": 65535, "container_port": 80, "range": 2}]`, eth0), []string{"setup", "/n"}, "ports are 1 to 65535"},
		{"the agent's error", podmansContainer("null", eth0), []string{"setup", "/n"}, "not running; hint: systemctl start agentd"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := &fake{networks: map[string]api.Network{"blue": weft("blue", "10.64.0.0/20", "10.64.0.1")},
				err: api.Errorf(api.KindUnreachable, "agent is not running").WithHint("systemctl start agentd")}
			out, ok := run(t, f, tt.stdin, tt.args...)
			message, _ := decoded(t, out).(map[string]any)["error"].(string)
			if ok || !strings.Contains(message, tt.want) {
				t.Errorf("ok %v, %s, want %q", ok, out, tt.want)
			}
		})
	}
}

func TestPortsInDockersSyntax(t *testing.T) {
	c := container{Ports: []portMapping{
		{HostPort: 8080, ContainerPort: 80, HostIP: "127.0.0.1", Protocol: "tcp", Range: 2},
		{HostPort: 53, ContainerPort: 53, Protocol: "tcp,udp"}, {HostPort: 80, ContainerPort: 80, HostIP: "::1"}, {HostPort: 81, ContainerPort: 81, HostIP: "0.0.0.0"},
	}}
	got, err := c.ports()
	want := []string{"127.0.0.1:8080:80/tcp", "127.0.0.1:8081:81/tcp", "53:53/tcp", "53:53/udp", "[::1]:80:80/tcp", "81:81/tcp"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// Whatever podman sends is answered: with what was asked for, or with an error in
// one line.
func FuzzRun(f *testing.F) {
	f.Add("setup", `{"container_id":"c1","container_name":"web","port_mappings":[{"container_port":80,"host_port":8080,"range":2}],"network":{"name":"blue"},"network_options":{"interface_name":"eth0","static_ips":["10.64.0.5"]}}`)
	f.Add("setup", `{"container_id":"c1","container_name":"web","port_mappings":[{"container_port":80,"host_port":80,"range":9223372036854775807}],"network":{"name":"blue"},"network_options":{"interface_name":"eth0"}}`)
	f.Add("teardown", `{"container_id":"c1","network":{"name":"blue","options":{"network":7}},"network_options":null}`)
	f.Add("create", `{"name":"blue","driver":"weft","subnets":[{"subnet":"10.64.0.0/20"}],"options":{"mtu":"x"},"labels":[]}`)
	f.Add("info", ``)
	f.Fuzz(func(t *testing.T, verb, stdin string) {
		agent := &fake{networks: map[string]api.Network{"blue": weft("blue", "10.64.0.0/20", "10.64.0.1")}}
		out, ok := run(t, agent, stdin, verb, "/run/netns/x")
		if out == "" && ok {
			return // teardown has no answer
		}
		var answer map[string]json.RawMessage
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if _, refused := answer["error"]; refused == ok {
			t.Fatalf("succeeded: %t, with %s", ok, out)
		}
	})
}
