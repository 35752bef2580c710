package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newNetwork(a *app) *cobra.Command {
	cmd := group("network COMMAND", "Make, show and remove networks",
		"Make, show and remove networks, in Docker's words.", "  agentctl network ls",
		newNetworkCreate(a), newNetworkList(a), newNetworkInspect(a), newNetworkRemove(a), newNetworkPrune(a),
		newNetworkConnect(a), newNetworkDisconnect(a))
	cmd.Aliases = []string{"net"}
	return cmd
}

func newNetworkList(a *app) *cobra.Command {
	var out output
	var quiet, whole bool
	cmd := listing[api.Network]{
		known: networkMatchers, usage: "show only networks with `KEY=VALUE`",
		ask: func(ctx context.Context, agent api.Service) ([]api.Network, error) { return agent.Networks(ctx) },
		order: func(x, y api.Network) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
		},
		show: func(list []api.Network) error {
			if quiet {
				return showIDs(a.out, list, whole)
			}
			return out.print(a.out, list, func(w io.Writer) { showNetworks(w, list, whole) })
		},
	}.of(a, &cobra.Command{
		Use:   "ls [-q] [--filter KEY=VALUE]...",
		Short: "Show the networks of the cluster",
		Long: `Show the networks of the cluster.

Filters are name=REGEXP, id=REGEXP, label=KEY, label=KEY=VALUE, driver=NAME,
scope=NAME, type=custom, internal=true and dangling=true, which is without
endpoints. Of one key any value will do, of label all are wanted, as of
different keys.`,
		Example: "  agentctl network ls --filter label=team=shop",
	}, &out)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show ids alone")
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "show whole ids")
	return cmd
}

func showNetworks(w io.Writer, list []api.Network, whole bool) {
	line(w, "NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNET", "STATE")
	for _, n := range list {
		line(w, id(n.ID, whole), n.Name, n.Driver, n.Scope, subnets(n), n.State)
	}
}

func showIDs(w io.Writer, list []api.Network, whole bool) error {
	for _, n := range list {
		if _, err := fmt.Fprintln(w, id(n.ID, whole)); err != nil {
			return err
		}
	}
	return nil
}

// id is an id for people, or all of it.
func id(s string, whole bool) string {
	if whole {
		return s
	}
	return short(s)
}

func subnets(n api.Network) string {
	var list []string
	for _, c := range n.IPAM.Config {
		list = append(list, c.Subnet)
	}
	return strings.Join(list, ",")
}

func newNetworkInspect(a *app) *cobra.Command {
	return inspect(a, &cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Show all about networks, with the endpoints of all hosts",
		Long:              "Show all about networks, with the endpoints of all hosts.\n\nNAME is a name or an id. " + inspectForm,
		Example:           "  agentctl network inspect backend --format '{{.VNI}}'",
		Args:              wants(1, -1, "the NAME of a network"),
		ValidArgsFunction: a.complete(networkNames),
	}, api.Service.Network, showWhole)
}

// inspectForm tells those who are used to docker inspect.
const inspectForm = "-o json answers as docker inspect does."

// inspect makes cmd show all about each of its arguments. It has the -f of
// docker inspect.
func inspect[T any](a *app, cmd *cobra.Command, ask func(api.Service, context.Context, string) (T, error), show func(io.Writer, []T)) *cobra.Command {
	var out output
	cmd.Aliases = []string{"show"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(cmd); err != nil {
			return err
		}
		return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
			list, err := each(args, func(name string) (T, error) { return ask(agent, ctx, name) })
			if len(list) == 0 {
				return err
			}
			return errors.Join(out.print(a.out, list, func(w io.Writer) { show(w, list) }), err)
		})
	}
	out.addOutput(cmd, "table")
	out.addFormat(cmd, "f")
	return cmd
}

// each asks for every name. It goes on after a failure, and returns what it got
// with the errors.
func each[T any](names []string, ask func(string) (T, error)) ([]T, error) {
	var list []T
	var errs []error
	for _, name := range names {
		v, err := ask(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, v)
	}
	return list, errors.Join(errs...)
}

func showWhole(w io.Writer, list []api.Network) {
	for i, n := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, oneLine(fmt.Sprintf("%s: %s, id %s, vni %d, mtu %d", n.Name, n.State, n.ID, n.VNI, n.MTU)))
		for _, c := range n.IPAM.Config {
			fmt.Fprintln(w, oneLine(fmt.Sprintf("subnet %s, gateway %s", c.Subnet, cmp.Or(c.Gateway, "none"))))
		}
		showContainers(w, n.Containers)
	}
}

func showContainers(w io.Writer, byID map[string]api.Container) {
	if len(byID) == 0 {
		return
	}
	list := make([]api.Container, 0, len(byID))
	for _, c := range byID {
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y api.Container) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.EndpointID, y.EndpointID))
	})
	fmt.Fprintln(w)
	line(w, "ENDPOINT ID", "NAME", "ADDRESS", "MAC", "HOST")
	for _, c := range list {
		line(w, short(c.EndpointID), c.Name, cmp.Or(c.IPv4Address, c.IPv6Address), c.MacAddress, c.Host)
	}
}
