package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/agent/api"
)

// conf is the plugin's configuration as it arrives on stdin: what the conflist
// says, and what the runtime adds for one container.
type conf struct {
	types.PluginConf

	Network       string        `json:"network,omitempty"` // of the overlay; empty: the configuration's name
	Socket        string        `json:"socket,omitempty"`  // of the agent; empty: api.DefaultSocket
	RuntimeConfig runtimeConfig `json:"runtimeConfig"`
}

// runtimeConfig is what a runtime fills in for the capabilities of the conflist
// (CONVENTIONS.md of the CNI).
type runtimeConfig struct {
	Aliases      aliases       `json:"aliases"`
	PortMappings []portMapping `json:"portMappings"`
	IPs          []string      `json:"ips"` // with or without a length
	MAC          string        `json:"mac"`
	DNS          runtimeDNS    `json:"dns"`
}

type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp when empty
	HostIP        string `json:"hostIP"`
}

// runtimeDNS has other key names than the dns of a configuration.
type runtimeDNS struct {
	Searches []string `json:"searches"`
	Options  []string `json:"options"`
}

// aliases by network. CONVENTIONS.md has a plain list, which stands under "";
// podman sends a map of lists.
type aliases map[string][]string

func (a *aliases) UnmarshalJSON(b []byte) error {
	var list []string
	if json.Unmarshal(b, &list) == nil {
		*a = aliases{"": list}
		return nil
	}
	var byNetwork map[string][]string
	if json.Unmarshal(b, &byNetwork) != nil {
		return fmt.Errorf("aliases: want a list of names, or a map of network to list of names")
	}
	*a = byNetwork
	return nil
}

// of a network: what was given for it and what was given for all.
func (a aliases) of(network string) []string {
	if network == "" {
		return a[""]
	}
	return append(slices.Clone(a[network]), a[""]...)
}

// args are the CNI_ARGS that say something about a container. The names of the
// fields are those of the keys: types.LoadArgs wants it so.
type args struct {
	types.CommonArgs
	IP                         types.UnmarshallableString
	MAC                        types.UnmarshallableString
	K8S_POD_NAME               types.UnmarshallableString
	K8S_POD_NAMESPACE          types.UnmarshallableString
	K8S_POD_UID                types.UnmarshallableString
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString
	NERDCTL_CNI_DHCP_HOSTNAME  types.UnmarshallableString
}

// parseConf reads the configuration; a *types.Error says what is wrong with it.
func parseConf(stdin []byte) (conf, error) {
	var c conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		return conf{}, types.NewError(types.ErrDecodingFailure, "network configuration: "+api.JSONFault(err), "")
	}
	if c.Network == "" {
		c.Network = c.Name
	}
	if c.Network == "" {
		return conf{}, badConf("network configuration: no network: give its name as \"name\"", "agentctl network ls")
	}
	return c, nil
}

func badConf(msg, hint string) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, msg, hint)
}

// request is the attachment that an ADD asks for.
func request(c conf, a *skel.CmdArgs) (api.AttachRequest, error) {
	var known args
	if err := types.LoadArgs(a.Args, &known); err != nil {
		return api.AttachRequest{}, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: "+err.Error(), "")
	}
	names := namesOf(c, known, a.ContainerID)
	if len(names) == 0 {
		return api.AttachRequest{}, types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("CNI_CONTAINERID %q: no name can be made of it", a.ContainerID), "")
	}
	r := api.AttachRequest{
		Network: c.Network, Netns: a.Netns, Ifname: a.IfName, Container: a.ContainerID,
		Name: names[0], Aliases: names[1:], Runtime: runtimeOf(known),
		MAC: string(known.MAC),
	}
	if c.RuntimeConfig.MAC != "" {
		r.MAC = c.RuntimeConfig.MAC
	}
	ips := c.RuntimeConfig.IPs
	if known.IP != "" && len(ips) == 0 {
		ips = []string{string(known.IP)}
	}
	var err error
	if r.IP, err = oneIP(ips); err != nil {
		return api.AttachRequest{}, err
	}
	r.Ports, err = ports(c.RuntimeConfig.PortMappings)
	return r, err
}

// runtimeOf tells podman, which gives the container's name as a pod's without a
// namespace, and nerdctl, from all others.
func runtimeOf(a args) string {
	switch {
	case a.K8S_POD_NAME != "" && a.K8S_POD_NAMESPACE == "":
		return "podman"
	case a.NERDCTL_CNI_DHCP_HOSTNAME != "":
		return "containerd"
	}
	return "cni"
}

// oneIP is the address that was asked for, without its length; empty when any
// will do.
func oneIP(ips []string) (string, error) {
	if len(ips) == 0 {
		return "", nil
	}
	if len(ips) > 1 {
		return "", badConf("ips: an endpoint has one address in this release, not "+strings.Join(ips, " and "), "")
	}
	a, err := netip.ParseAddr(ips[0])
	if strings.Contains(ips[0], "/") {
		var p netip.Prefix
		p, err = netip.ParsePrefix(ips[0])
		a = p.Addr()
	}
	if err != nil {
		return "", badConf(fmt.Sprintf("ips: %q is no IP address", ips[0]), "")
	}
	return a.String(), nil
}

// ports are the mappings in Docker's syntax, [IP:]8080:80/tcp.
func ports(mappings []portMapping) ([]string, error) {
	var out []string
	for _, m := range mappings {
		proto := strings.ToLower(m.Protocol)
		if proto == "" {
			proto = "tcp"
		}
		if !port(m.HostPort) || !port(m.ContainerPort) || proto != "tcp" && proto != "udp" {
			return nil, badConf(fmt.Sprintf("portMappings: %d to %d/%s is no mapping: ports are 1 to 65535, tcp or udp",
				m.HostPort, m.ContainerPort, proto), "")
		}
		p := strconv.Itoa(m.HostPort) + ":" + strconv.Itoa(m.ContainerPort) + "/" + proto
		if m.HostIP != "" {
			ip, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, badConf(fmt.Sprintf("portMappings: hostIP %q is no IP address", m.HostIP), "")
			}
			if !ip.IsUnspecified() {
				p = hostPart(ip) + ":" + p
			}
		}
		out = append(out, p)
	}
	return out, nil
}

func port(n int) bool { return n > 0 && n <= 65535 }

func hostPart(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
