package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
)

// fake is an agent with one network, blue, and the endpoints it is given.
type fake struct {
	state     string // of Status
	err       error  // of every call
	endpoints []api.Endpoint
	detached  []api.ContainerRef
}

func (f *fake) Status(context.Context) (api.Status, error) {
	return api.Status{State: f.state, Name: "host1", Checks: []api.Check{{Name: "dns", State: api.CheckOK, Detail: "fine"},
		{Name: "membership", State: api.CheckFail, Detail: "no cluster", Hint: "agentctl init"}}}, f.err
}

func (f *fake) Network(_ context.Context, name string) (api.Network, error) {
	if name != "blue" {
		return api.Network{}, api.Errorf(api.KindNotFound, "no network %s", name).WithHint("agentctl network ls")
	}
	return api.Network{Name: name}, f.err
}

func (f *fake) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	if _, err := f.Network(ctx, r.Network); err != nil {
		return api.Attachment{}, err
	}
	return api.Attachment{ID: "e1", Name: r.Name, Network: r.Network, Address: "10.64.0.5/20", Gateway: "10.64.0.1", DNS: []string{"10.64.0.1"},
		Search: []string{"blue.weft.internal", "weft.internal"}, MAC: "0e:00:0a:40:00:05", MTU: 1450, Interface: r.Ifname}, f.err
}

func (f *fake) DetachContainer(_ context.Context, c api.ContainerRef) error {
	f.detached = append(f.detached, c)
	return f.err
}

func (f *fake) Endpoints(ctx context.Context, filter api.EndpointFilter) ([]api.Endpoint, error) {
	_, err := f.Network(ctx, filter.Network)
	return slices.Clone(f.endpoints), errors.Join(err, f.err)
}

// run calls a verb in a namespace that is there.
func run(t *testing.T, f *fake, verb, stdin string) (string, *types.Error) {
	t.Helper()
	var out bytes.Buffer
	p := plugin{dial: func(string) agentAPI { return f }, stdout: &out}
	funcs := p.funcs()
	call := map[string]func(*skel.CmdArgs) error{"ADD": funcs.Add, "DEL": funcs.Del, "CHECK": funcs.Check, "GC": funcs.GC, "STATUS": funcs.Status}[verb]
	err := call(&skel.CmdArgs{ContainerID: "c1", Netns: "/proc/self/ns/net", IfName: "eth0", StdinData: []byte(stdin)})
	e, ok := errors.AsType[*types.Error](err)
	if err != nil && !ok {
		t.Fatalf("%s: %T: %v", verb, err, err)
	}
	return out.String(), e
}

func TestAddAnswersInTheVersionThatWasAskedFor(t *testing.T) {
	const dns = `"dns": {"nameservers": ["10.64.0.1"], "search": ["blue.weft.internal", "weft.internal", "example.com"], "options": ["ndots:1"]}`
	for version, want := range map[string]string{
		"0.4.0": `{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "mac": "0e:00:0a:40:00:05", "sandbox": "/proc/self/ns/net"}],
			"ips": [{"version": "4", "interface": 0, "address": "10.64.0.5/20", "gateway": "10.64.0.1"}],
			"routes": [{"dst": "0.0.0.0/0", "gw": "10.64.0.1"}], ` + dns + `}`,
		"1.1.0": `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "0e:00:0a:40:00:05", "mtu": 1450, "sandbox": "/proc/self/ns/net"}],
			"ips": [{"interface": 0, "address": "10.64.0.5/20", "gateway": "10.64.0.1"}],
			"routes": [{"dst": "0.0.0.0/0", "gw": "10.64.0.1"}], ` + dns + `}`,
	} {
		out, err := run(t, &fake{}, "ADD", `{"cniVersion": "`+version+`", "name": "blue", "type": "weft",
			"runtimeConfig": {"dns": {"searches": ["weft.internal", "example.com"], "options": ["ndots:1"], "servers": ["192.0.2.53"]}}}`)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if diff := cmp.Diff(decoded(t, want), decoded(t, out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

const blue = `{"cniVersion": "1.1.0", "name": "blue", "type": "weft"}`

func TestErrorsHaveTheCodesOfTheCNI(t *testing.T) {
	away := api.Errorf(api.KindUnreachable, "agent at /run/weft/agentd.sock is not running").WithHint("systemctl start agentd")
	for _, tt := range []struct {
		what, verb, stdin string
		agent             fake
		code              uint
		msg, details      string
	}{
		{"an unknown network", "ADD", `{"cniVersion": "1.0.0", "name": "red"}`, fake{}, types.ErrInvalidNetworkConfig, "no network red", "agentctl network ls"},
		{"no agent", "ADD", blue, fake{err: away}, types.ErrTryAgainLater, "is not running", "systemctl start agentd"},
		{"no agent", "DEL", blue, fake{err: away}, types.ErrTryAgainLater, "is not running", "systemctl start agentd"},
		{"no agent", "STATUS", blue, fake{err: away}, types.ErrPluginNotAvailable, "is not running", "systemctl start agentd"},
		{"no member", "STATUS", blue, fake{state: "not-a-member"}, types.ErrPluginNotAvailable, "host1 is not-a-member: no cluster", "agentctl init"},
		{"no such network", "STATUS", `{"cniVersion": "1.1.0", "name": "red"}`, fake{state: "ok"}, types.ErrPluginNotAvailable, "no network red", "agentctl network ls"},
		{"a taken address", "ADD", blue, fake{err: api.Errorf(api.KindConflict, "10.64.0.9 is taken")}, types.ErrInternal, "taken", ""},
		{"nothing to check against", "CHECK", blue, fake{}, types.ErrInvalidNetworkConfig, "prevResult: missing", ""},
		{"a previous result that is none", "CHECK", `{"cniVersion": "1.1.0", "name": "blue", "prevResult": {"ips": 7}}`, fake{}, types.ErrDecodingFailure, "prevResult", ""},
	} {
		t.Run(tt.what+" "+tt.verb, func(t *testing.T) {
			_, err := run(t, &tt.agent, tt.verb, tt.stdin)
			if err == nil || err.Code != tt.code || !strings.Contains(err.Msg, tt.msg) || err.Details != tt.details {
				t.Errorf("got %+v, want code %d, %q, details %q", err, tt.code, tt.msg, tt.details)
			}
		})
	}
}

func TestAddWantsANamespaceThatIsThere(t *testing.T) {
	p := plugin{dial: func(string) agentAPI { return &fake{} }, stdout: new(bytes.Buffer)}
	err := p.funcs().Add(&skel.CmdArgs{ContainerID: "c1", Netns: "/run/netns/gone-for-good", IfName: "eth0", StdinData: []byte(blue)})
	if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != types.ErrInvalidNetNS || !strings.Contains(e.Msg, "gone-for-good") {
		t.Errorf("got %#v", err)
	}
}

func TestGCDetachesWhatItsRuntimeDoesNotList(t *testing.T) {
	on := func(runtime, container, ifname string) api.Endpoint {
		return api.Endpoint{Network: "blue", Runtime: runtime, Container: container, Interface: ifname}
	}
	f := &fake{endpoints: []api.Endpoint{
		on("cni", "kept", "eth0"), on("cni", "kept", "eth1"), on("containerd", "stale", "eth0"),
		on("podman", "another-runtimes", "eth0"), on("netns", "", "eth0"), on("docker", "dockers", "eth0"),
	}}
	if _, err := run(t, f, "GC", `{"cniVersion": "1.1.0", "name": "blue", "cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}`); err != nil {
		t.Fatal(err)
	}
	want := []api.ContainerRef{{Network: "blue", Container: "kept", Ifname: "eth1"}, {Network: "blue", Container: "stale", Ifname: "eth0"}}
	if diff := cmp.Diff(want, f.detached); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.detached = nil
	if _, err := run(t, f, "GC", `{"cniVersion": "1.1.0", "name": "blue"}`); err == nil || len(f.detached) > 0 {
		t.Errorf("without a list: %v, detached %v", err, f.detached)
	}
	if _, err := run(t, f, "GC", `{"cniVersion": "1.1.0", "name": "deleted", "cni.dev/valid-attachments": null}`); err != nil {
		t.Errorf("of a network that is gone: %v", err)
	}
}

func TestCheckNamesWhatDiffers(t *testing.T) {
	const stdin = `{"cniVersion": "1.1.0", "name": "blue", "prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": "eth0", "mac": "0e:00:0a:40:00:05", "sandbox": "/x"}],
		"ips": [{"interface": 0, "address": "10.64.0.5/20"}]}}`
	good := api.Endpoint{Network: "blue", Runtime: "cni", Container: "c1", Interface: "eth0", MAC: "0e:00:0a:40:00:05", Address: "10.64.0.5/20"}
	moved := good
	moved.Address, moved.MAC = "10.64.0.6/20", "0e:00:0a:40:00:06"
	for _, tt := range []struct {
		what string
		have []api.Endpoint
		code uint
		want string
	}{
		{"no endpoint", nil, types.ErrUnknownContainer, "container c1 has no eth0 on network blue"},
		{"another address", []api.Endpoint{moved}, types.ErrInternal,
			"the agent has MAC 0e:00:0a:40:00:06 instead of 0e:00:0a:40:00:05, no address 10.64.0.5/20"},
	} {
		_, err := run(t, &fake{endpoints: tt.have}, "CHECK", stdin)
		if err == nil || err.Code != tt.code || !strings.Contains(err.Msg, tt.want) {
			t.Errorf("%s: got %+v, want code %d and %q", tt.what, err, tt.code, tt.want)
		}
	}
}

func TestDefaultGatewayOfAnInterface(t *testing.T) {
	const table = "Iface\tDestination\tGateway \tFlags\neth0\t0000400A\t00000000\t0001\neth1\t00000000\t0100A8C0\t0003\neth0\t00000000\t0100400A\t0003\n"
	if got := defaultGateway(table, "eth0").String(); got != "10.64.0.1" {
		t.Errorf("eth0: %s", got)
	}
	if got := defaultGateway(table, "eth2"); got.IsValid() {
		t.Errorf("eth2: %s", got)
	}
}
