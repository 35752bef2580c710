package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// container is what the endpoints of one sandbox of this host have in common.
type container struct {
	Name      string         `json:"name"`
	Container string         `json:"container"` // the runtime's id; empty for a bare namespace
	Runtime   string         `json:"runtime"`
	Sandbox   string         `json:"sandbox"`
	Networks  []containerNet `json:"networks"` // sorted by name
}

// containerNet is a container on one network.
type containerNet struct {
	Network   string `json:"network"`
	Endpoint  string `json:"endpoint"` // id
	Address   string `json:"address"`
	Interface string `json:"interface"`
}

func newPS(a *app) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "Show the containers of this host on our networks, with their addresses",
		Long:    "Show the containers and other sandboxes of this host that are on our networks,\nwith their addresses.",
		Example: "  agentctl ps",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				list, err := containers(ctx, agent)
				if err != nil {
					return err
				}
				return out.print(a.out, list, func(w io.Writer) { showContainerList(w, list) })
			})
		},
	}
	out.addFlags(cmd, "table")
	return cmd
}

func showContainerList(w io.Writer, list []container) {
	line(w, "CONTAINER", "NAME", "RUNTIME", "ADDRESSES")
	for _, c := range list {
		var on []string
		for _, n := range c.Networks {
			addr, _, _ := strings.Cut(n.Address, "/")
			on = append(on, n.Network+"="+addr)
		}
		line(w, short(c.Container), c.Name, c.Runtime, strings.Join(on, ","))
	}
}

// containers are those of the agent's host, sorted by name.
func containers(ctx context.Context, agent api.Service) ([]container, error) {
	st, err := agent.Status(ctx)
	if err != nil {
		return nil, err
	}
	all, err := agent.Endpoints(ctx, api.EndpointFilter{Host: st.Name, All: true})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(x, y api.Endpoint) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Network, y.Network), cmp.Compare(x.ID, y.ID))
	})
	list := []container{}
	for _, e := range all {
		if e.Runtime == "host" {
			continue
		}
		i := slices.IndexFunc(list, func(c container) bool { return c.Sandbox == e.Sandbox && c.Container == e.Container })
		if i < 0 || e.Sandbox == "" && e.Container == "" { // nothing tells it from others
			i = len(list)
			list = append(list, container{Name: e.Name, Container: e.Container, Runtime: e.Runtime, Sandbox: e.Sandbox})
		}
		list[i].Networks = append(list[i].Networks, containerNet{Network: e.Network, Endpoint: e.ID, Address: e.Address, Interface: e.Interface})
	}
	for _, c := range list {
		slices.SortStableFunc(c.Networks, func(x, y containerNet) int { return cmp.Compare(x.Network, y.Network) })
	}
	return list, nil
}
