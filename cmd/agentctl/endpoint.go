package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newAttach(a *app) *cobra.Command {
	var r api.AttachRequest
	var out output
	var labels []string
	cmd := &cobra.Command{
		Use:   "attach NETWORK (--netns NAME|PATH | --pid PID) --name NAME [--alias NAME]... [--ip IP] [--mac MAC] [--ifname NAME] [-p [IP:]8080:80[/udp]]... [--no-default-route] [--label KEY=VALUE]...",
		Short: "Put an interface on a network into a network namespace",
		Long: `Put an interface on a network into a network namespace, under a name that the
network's other endpoints resolve.

The same again has the same answer. Resolvers are written to
/etc/netns/NAME/resolv.conf with --netns NAME; with --pid the answer's dns says
what to write.

A port published with -p is this host's: other hosts reach it under this host's
address, and the endpoint sees theirs.`,
		Example: "  agentctl attach backend --netns web --name web -p 8080:80",
		Args:    wants(1, 1, "a NETWORK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r.Network = args[0]
			if err := checkAttach(cmd, r); err != nil {
				return err
			}
			var err error
			if r.Labels, err = labelMap(cmd, labels); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.Attach(ctx, r)
				if err != nil {
					return err
				}
				for _, n := range res.Notices {
					a.notice("notice", "%s", n)
				}
				return out.print(a.out, res, func(w io.Writer) { showAttachment(w, res) })
			})
		},
		ValidArgsFunction: a.completeFirst(networkNames),
	}
	f := cmd.Flags()
	f.StringVar(&r.Netns, "netns", "", "the namespace, a `NAME` below /run/netns or a path")
	f.IntVar(&r.PID, "pid", 0, "the namespace of the process `PID`")
	f.StringVar(&r.Name, "name", "", "the endpoint's `NAME` in DNS")
	f.StringArrayVar(&r.Aliases, "alias", nil, "another `NAME` in DNS")
	f.StringVar(&r.IP, "ip", "", "this `IP` of the subnet (default a free one)")
	f.StringVar(&r.MAC, "mac", "", "this `MAC` address (default derived from the IP)")
	f.StringVar(&r.Ifname, "ifname", "", "the interface's `NAME` in the namespace (default eth0)")
	f.StringArrayVarP(&r.Ports, "publish", "p", nil, "publish `PORTS` of this host: [IP:]8080:80[/udp], 8080-8082:80-82, or 80 for any free one")
	f.BoolVar(&r.NoDefaultRoute, "no-default-route", false, "route only the subnet through the interface")
	f.StringArrayVar(&labels, "label", nil, "note `KEY=VALUE` on the endpoint")
	out.addFlags(cmd, "table")
	cmd.RegisterFlagCompletionFunc("netns", completeNetns)
	return cmd
}

func checkAttach(cmd *cobra.Command, r api.AttachRequest) error {
	pid := cmd.Flags().Changed("pid")
	switch {
	case (r.Netns != "") == pid:
		return misuse(cmd, "needs either --netns NAME or --pid PID")
	case pid && r.PID <= 0:
		return misuse(cmd, "--pid %d: no process has this id", r.PID)
	case r.Name == "":
		return misuse(cmd, "needs --name NAME")
	}
	return nil
}

func showAttachment(w io.Writer, r api.Attachment) {
	line(w, "ENDPOINT ID", "NAME", "NETWORK", "ADDRESS", "GATEWAY", "DNS", "INTERFACE", "PORTS")
	line(w, short(r.ID), r.Name, r.Network, r.Address, r.Gateway, strings.Join(r.DNS, ","), r.Interface, strings.Join(r.Ports, ", "))
}

func newDetach(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "detach NETWORK NAME|ID",
		Short:   "Take an endpoint of this host off a network",
		Long:    "Take an endpoint of this host off a network; done also when it is already gone.",
		Example: "  agentctl detach backend web",
		Args:    wants(2, 2, "a NETWORK and the NAME or ID of an endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				return agent.Detach(ctx, args[0], args[1])
			})
		},
		ValidArgsFunction: a.completeDetach,
	}
}

func newEndpoint(a *app) *cobra.Command {
	return group("endpoint COMMAND", "Show endpoints", "Show endpoints: the interfaces on our networks, of all hosts.",
		"  agentctl endpoint ls", newEndpointList(a), newEndpointInspect(a), newEndpointHistory(a))
}

func newEndpointList(a *app) *cobra.Command {
	var filter api.EndpointFilter
	var out output
	cmd := listing[api.Endpoint]{
		known: endpointMatchers, usage: "only those with `KEY=VALUE`",
		ask: func(ctx context.Context, agent api.Service) ([]api.Endpoint, error) {
			return agent.Endpoints(ctx, filter)
		},
		order: func(x, y api.Endpoint) int {
			return cmp.Or(cmp.Compare(x.Network, y.Network), cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
		},
		show: func(list []api.Endpoint) error {
			return out.print(a.out, list, func(w io.Writer) { showEndpoints(w, list) })
		},
	}.of(a, &cobra.Command{
		Use:   "ls [--network NAME] [--host NAME] [--all] [--filter KEY=VALUE]...",
		Short: "Show the endpoints of all hosts",
		Long: `Show the endpoints of all hosts.

Those of dead hosts are suspended and shown with --all. Filters are name=REGEXP,
id=REGEXP, network=NAME, host=NAME, runtime=NAME, status=STATUS, label=KEY and
label=KEY=VALUE. Of one key any value will do, of label all are wanted, as of
different keys.

The published ports are ? where the endpoint's host is of a release that does
not tell them.`,
		Example: "  agentctl endpoint ls --network backend",
	}, &out)
	cmd.Flags().StringVar(&filter.Network, "network", "", "only those of the network `NAME`")
	cmd.Flags().StringVar(&filter.Host, "host", "", "only those of the host `NAME`")
	cmd.Flags().BoolVar(&filter.All, "all", false, "those of dead hosts too")
	cmd.RegisterFlagCompletionFunc("network", a.complete(networkNames))
	cmd.RegisterFlagCompletionFunc("host", a.complete(memberNames))
	return cmd
}

func showEndpoints(w io.Writer, list []api.Endpoint) {
	line(w, "ENDPOINT ID", "NAME", "NETWORK", "ADDRESS", "HOST", "STATUS", "RUNTIME", "PORTS")
	for _, e := range list {
		line(w, short(e.ID), e.Name, e.Network, e.Address, e.Host, e.Status, e.Runtime, ports(e))
	}
}

// ports are those that lead to an endpoint, of its own host.
func ports(e api.Endpoint) string {
	switch {
	case !e.Detailed:
		return "?"
	case e.More > 0 && len(e.Ports) > 0:
		return fmt.Sprintf("%s, … (agentctl endpoint inspect on %s)", strings.Join(e.Ports, ", "), e.Host)
	}
	return strings.Join(e.Ports, ", ")
}

func newEndpointInspect(a *app) *cobra.Command {
	return inspect(a, &cobra.Command{
		Use:               "inspect NAME|ID...",
		Short:             "Show all about endpoints",
		Long:              "Show all about endpoints.",
		Example:           "  agentctl endpoint inspect web --format '{{.Address}}'",
		Args:              wants(1, -1, "the NAME or ID of an endpoint"),
		ValidArgsFunction: a.complete(endpointNames),
	}, api.Service.Endpoint, showEndpointsWhole)
}

func showEndpointsWhole(w io.Writer, list []api.Endpoint) {
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		for _, row := range [][2]string{
			{"id", e.ID}, {"name", e.Name}, {"aliases", strings.Join(e.Aliases, ", ")}, {"network", e.Network}, {"address", e.Address},
			{"mac", e.MAC}, {"host", e.Host}, {"status", e.Status}, {"runtime", e.Runtime}, {"sandbox", e.Sandbox}, {"interface", e.Interface},
			{"ports", ports(e)},
			{"container", e.Container}, {"labels", labelWords(e.Labels)},
		} {
			line(w, row[0], row[1])
		}
	}
}
