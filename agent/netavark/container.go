package netavark

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// setup attaches a container.
func setup(ctx context.Context, agent Agent, netns string, c container) (any, error) {
	r, err := c.request(netns)
	if err != nil {
		return nil, err
	}
	at, err := api.Again(ctx, func(ctx context.Context) (api.Attachment, error) { return agent.Attach(ctx, r) })
	if err != nil {
		return nil, err
	}
	return status{
		Search: orEmpty(at.Search), Servers: orEmpty(at.DNS),
		Interfaces: map[string]netIface{at.Interface: {
			MAC: at.MAC, Subnets: []netAddress{{Gateway: at.Gateway, IPNet: at.Address}},
		}},
	}, nil
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// teardown succeeds when nothing is left to take down.
func teardown(ctx context.Context, agent Agent, c container) error {
	if err := c.check(); err != nil {
		return err
	}
	return agent.DetachContainer(ctx, api.ContainerRef{Network: c.Network.overlay(), Container: c.ID, Ifname: c.Options.Interface})
}

// check wants what identifies the endpoint.
func (c container) check() error {
	for _, f := range []struct{ what, value string }{
		{"container_id", c.ID}, {"network.name", c.Network.overlay()}, {"network_options.interface_name", c.Options.Interface},
	} {
		if f.value == "" {
			return fmt.Errorf("stdin: %s is missing", f.what)
		}
	}
	return nil
}

// request is the attachment that podman asks for.
func (c container) request(netns string) (api.AttachRequest, error) {
	r := api.AttachRequest{
		Network: c.Network.overlay(), Netns: netns, Name: api.Label(c.Name), MAC: c.Options.MAC,
		Ifname: c.Options.Interface, Runtime: "podman", Container: c.ID,
	}
	if err := c.check(); err != nil {
		return r, err
	}
	for _, name := range append([]string{c.Name}, c.Options.Aliases...) {
		for _, n := range api.Names(name) {
			if n != r.Name {
				r.Aliases = append(r.Aliases, n)
			}
		}
	}
	switch len(c.Options.IPs) {
	case 0:
	case 1:
		r.IP = c.Options.IPs[0]
	default:
		return r, api.Errorf(api.KindMisuse, "static_ips: an endpoint has one address in this release, not %s", strings.Join(c.Options.IPs, " and "))
	}
	var err error
	r.Ports, err = c.ports()
	return r, err
}

// ports are the mappings in Docker's syntax, [IP:]8080:80/tcp, a line for each
// port and protocol.
func (c container) ports() ([]string, error) {
	var out []string
	for _, m := range c.Ports {
		host := ""
		if m.HostIP != "" {
			ip, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, fmt.Errorf("port_mappings: host_ip %q is no IP address", m.HostIP)
			}
			switch {
			case ip.IsUnspecified():
			case ip.Is6():
				host = "[" + ip.String() + "]:"
			default:
				host = ip.String() + ":"
			}
		}
		count := max(m.Range, 1)
		if m.HostPort < 1 || m.ContainerPort < 1 || max(m.HostPort, m.ContainerPort) > 65535-(count-1) {
			return nil, fmt.Errorf("port_mappings: %d to %d, %d ports: ports are 1 to 65535", m.HostPort, m.ContainerPort, count)
		}
		protocols := "tcp"
		if m.Protocol != "" {
			protocols = m.Protocol
		}
		for proto := range strings.SplitSeq(protocols, ",") {
			for i := range count {
				out = append(out, host+strconv.Itoa(m.HostPort+i)+":"+strconv.Itoa(m.ContainerPort+i)+"/"+proto)
			}
		}
	}
	return out, nil
}
