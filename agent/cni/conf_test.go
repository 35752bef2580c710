package cni

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
)

const id = "a67b354ec6b99468c8235abaf1f2c83cbfc660d26b5fa06ac653579f7db2f6c3"

// requestOf is what an ADD with this configuration and these arguments asks for.
func requestOf(stdin, arguments, container string) (api.AttachRequest, error) {
	c, err := parseConf([]byte(stdin))
	if err != nil {
		return api.AttachRequest{}, err
	}
	return request(c, &skel.CmdArgs{ContainerID: container, Netns: "/run/netns/c1", IfName: "eth0", Args: arguments})
}

// What each runtime sends, as recorded from it.
func TestRequestOfEachRuntime(t *testing.T) {
	keepNerdctlName(t, "default", "shop", id)
	for _, tt := range []struct {
		name, stdin, args, container string
		want                         api.AttachRequest
	}{
		{
			"podman: aliases are a map by network, the name is a pod's",
			`{"cniVersion":"1.0.0","name":"blue","type":"weft","runtimeConfig":{"aliases":{"blue":["db","a67b354ec6b9"],"red":["other"]}}}`,
			"IgnoreUnknown=1;K8S_POD_NAME=Web.1", id,
			api.AttachRequest{Name: "web-1", Aliases: []string{"web.1", "db", "a67b354ec6b9"}, Runtime: "podman"},
		},
		{
			"podman with --ip and --mac-address",
			`{"cniVersion":"1.0.0","name":"blue","type":"weft"}`,
			"IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.64.0.9;MAC=0e:00:00:00:00:09", id,
			api.AttachRequest{Name: "web", Aliases: []string{"a67b354ec6b9"}, IP: "10.64.0.9", MAC: "0e:00:00:00:00:09", Runtime: "podman"},
		},
		{
			"a list of aliases, ips with a length, mac",
			`{"cniVersion":"1.0.0","name":"list","network":"blue","runtimeConfig":{"aliases":["db","cache"],"ips":["10.64.0.9/20"],"mac":"0e:00:00:00:00:09"}}`,
			"", "c1",
			api.AttachRequest{Name: "db", Aliases: []string{"cache"}, IP: "10.64.0.9", MAC: "0e:00:00:00:00:09", Runtime: "cni"},
		},
		{
			"CRI: a pod in a namespace",
			`{"cniVersion":"1.0.0","name":"blue","runtimeConfig":{"portMappings":[]}}`,
			"IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=" + id, id,
			api.AttachRequest{Name: "web", Aliases: []string{"web-prod", "a67b354ec6b9"}, Runtime: "cni"},
		},
		{
			"ctr: nothing but an id that a person typed",
			`{"cniVersion":"1.0.0","name":"blue"}`, "", "default-frontend",
			api.AttachRequest{Name: "default-frontend", Runtime: "cni"},
		},
		{
			"nerdctl with a hostname of its own making: the name is in its store",
			`{"cniVersion":"1.0.0","name":"blue"}`, "IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=a67b354ec6b9", "default-" + id,
			api.AttachRequest{Name: "shop", Aliases: []string{"a67b354ec6b9"}, Runtime: "containerd"},
		},
		{
			"nerdctl with --hostname",
			`{"cniVersion":"1.0.0","name":"blue"}`, "IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=front", "default-" + id,
			api.AttachRequest{Name: "front", Aliases: []string{"shop", "a67b354ec6b9"}, Runtime: "containerd"},
		},
		{
			"a drawn id that no runtime knows a name of",
			`{"cniVersion":"0.4.0","name":"blue"}`, "", "other-" + id,
			api.AttachRequest{Name: "a67b354ec6b9", Runtime: "cni"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := requestOf(tt.stdin, tt.args, tt.container)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.Network, want.Netns, want.Ifname, want.Container = "blue", "/run/netns/c1", "eth0", tt.container
			if len(got.Aliases) == 0 {
				got.Aliases = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// keepNerdctlName writes a name into a store like nerdctl's.
func keepNerdctlName(t *testing.T, namespace, name, container string) {
	t.Helper()
	before := nerdctlNames
	nerdctlNames = t.TempDir()
	t.Cleanup(func() { nerdctlNames = before })
	dir := filepath.Join(nerdctlNames, "1935db59", "names", namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(container), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBadCallsAreNamed(t *testing.T) {
	const name = `{"cniVersion":"1.0.0","name":"blue"`
	for _, tt := range []struct {
		what, stdin, args string
		code              uint
		want              string
	}{
		{"no JSON", `{"name"`, "", types.ErrDecodingFailure, "network configuration"},
		{"no network", `{"cniVersion":"1.0.0"}`, "", types.ErrInvalidNetworkConfig, "no network"},
		{"aliases that are neither", name + `,"runtimeConfig":{"aliases":7}}`, "", types.ErrDecodingFailure, "aliases: want a list of names"},
		{"ports that are none", name + `,"runtimeConfig":{"portMappings":[{"hostPort":70000,"containerPort":80}]}}`, "",
			types.ErrInvalidNetworkConfig, "portMappings: 70000 to 80/tcp"},
		{"a protocol that is none", name + `,"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"gre"}]}}`, "",
			types.ErrInvalidNetworkConfig, "80/gre"},
		{"a host address that is none", name + `,"runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"here"}]}}`, "",
			types.ErrInvalidNetworkConfig, `hostIP "here"`},
		{"two addresses", name + `,"runtimeConfig":{"ips":["10.64.0.9","10.64.0.10"]}}`, "", types.ErrInvalidNetworkConfig, "10.64.0.9 and 10.64.0.10"},
		{"an address that is none", name + `,"runtimeConfig":{"ips":["web"]}}`, "", types.ErrInvalidNetworkConfig, `"web" is no IP address`},
		{"an address of a length that is none", name + `,"runtimeConfig":{"ips":["10.64.0.9/99"]}}`, "", types.ErrInvalidNetworkConfig, `"10.64.0.9/99" is no IP address`},
		{"a word for a list", name + `,"runtimeConfig":{"ips":"web"}}`, "", types.ErrDecodingFailure, `key "runtimeConfig.ips" cannot be a string`},
		{"an unknown argument", name + `}`, "COLOUR=red", types.ErrInvalidEnvironmentVariables, "COLOUR=red"},
		{"an argument without value", name + `}`, "IgnoreUnknown", types.ErrInvalidEnvironmentVariables, "CNI_ARGS"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			_, err := requestOf(tt.stdin, tt.args, "c1")
			e, ok := errors.AsType[*types.Error](err)
			if !ok || e.Code != tt.code || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("got %#v, want code %d and %q", err, tt.code, tt.want)
			}
		})
	}
}

func TestPortsInDockersSyntax(t *testing.T) {
	got, err := ports([]portMapping{
		{HostPort: 8080, ContainerPort: 80}, {HostPort: 53, ContainerPort: 5353, Protocol: "UDP", HostIP: "127.0.0.1"},
		{HostPort: 80, ContainerPort: 80, Protocol: "tcp", HostIP: "0.0.0.0"}, {HostPort: 80, ContainerPort: 80, HostIP: "2001:db8::1"},
	})
	want := []string{"8080:80/tcp", "127.0.0.1:53:5353/udp", "80:80/tcp", "[2001:db8::1]:80:80/tcp"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// Whatever a runtime sends is a request with a name, or a CNI error.
func FuzzRequest(f *testing.F) {
	f.Add(`{"cniVersion":"1.0.0","name":"blue","runtimeConfig":{"aliases":{"blue":["db"]}}}`, "IgnoreUnknown=1;K8S_POD_NAME=web", id)
	f.Add(`{"name":"blue","runtimeConfig":{"aliases":["db"],"ips":["10.64.0.9/20"],"portMappings":[{"hostPort":1}]}}`, "A=B", "c1")
	f.Add(`{"name":"blue","dns":{"search":["a"]},"prevResult":{"ips":[null]}}`, "", "-")
	f.Fuzz(func(t *testing.T, stdin, arguments, container string) {
		r, err := requestOf(stdin, arguments, container)
		if _, ok := errors.AsType[*types.Error](err); err != nil && !ok {
			t.Fatalf("%T: %v", err, err)
		}
		if err == nil && (r.Name == "" || r.Name != api.Label(r.Name) || r.Network == "") {
			t.Fatalf("%+v", r)
		}
	})
}
