package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newNetworkConnect(a *app) *cobra.Command {
	var r api.ConnectRequest
	var out output
	cmd := &cobra.Command{
		Use:   "connect NETWORK CONTAINER [--ip IP] [--alias NAME]... [--mac MAC]",
		Short: "Put a container of this host on one more network",
		Long: `Put a container of this host on one more network, under the name that it has.

CONTAINER is a name or an id of agentctl ps, or the beginning of an id. It gets
another interface, the next free ethN, and keeps it until it ends. Its default
route stays with the network that has it. A container of Docker's may be on none
of our networks yet; a process of no runtime is put on its first one with
agentctl attach NETWORK --pid PID --name NAME.`,
		Example: "  agentctl network connect frontend web",
		Args:    wants(2, 2, "a NETWORK and a CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r.Network, r.Container = args[0], args[1]
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.Connect(ctx, r)
				if err != nil {
					return err
				}
				for _, n := range res.Notices {
					a.notice("notice", "%s", n)
				}
				return out.print(a.out, res, func(w io.Writer) { showAttachment(w, res) })
			})
		},
		ValidArgsFunction: a.completeConnect,
	}
	f := cmd.Flags()
	f.StringVar(&r.IP, "ip", "", "this `IP` of the subnet (default a free one)")
	f.StringArrayVar(&r.Aliases, "alias", nil, "another `NAME` in DNS, on this network")
	f.StringVar(&r.MAC, "mac", "", "this `MAC` address (default derived from the IP)")
	out.addFlags(cmd, "table")
	return cmd
}

func newNetworkDisconnect(a *app) *cobra.Command {
	var r api.DisconnectRequest
	cmd := &cobra.Command{
		Use:   "disconnect NETWORK CONTAINER [-f]",
		Short: "Take a container of this host off a network",
		Long: `Take a container of this host off a network, its last one, too.

CONTAINER is a name or an id of agentctl ps, or the beginning of an id. If its
default route went through the network, the first by name of its other networks
gets it.`,
		Example: "  agentctl network disconnect frontend web",
		Args:    wants(2, 2, "a NETWORK and a CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Network, r.Container = args[0], args[1]
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error { return agent.Disconnect(ctx, r) })
		},
		ValidArgsFunction: a.completeConnect,
	}
	cmd.Flags().BoolVarP(&r.Force, "force", "f", false, "one that is not on the network is no error")
	return cmd
}
