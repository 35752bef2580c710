package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// createFlags is the flags of network create that are more than a field of the
// request.
type createFlags struct {
	aux, labels, options []string
	attachable           bool
	scope, ipamDriver    string
}

func newNetworkCreate(a *app) *cobra.Command {
	var r api.NetworkCreateRequest
	var flags createFlags
	var out output
	cmd := &cobra.Command{
		Use:   "create NAME [--subnet CIDR]... [--gateway IP] [--ip-range CIDR] [--internal] [--label KEY=VALUE]... [-o KEY=VALUE]...",
		Short: "Make a network",
		Long: `Make a network that every host of the cluster can use within two seconds, and
print its id.

Without --subnet it gets one that overlaps no network and no route of any host.
Options of -o: mtu=BYTES of the largest inner packet; host_access=local: a host
reaches the endpoints that run on it; full: every host reaches all of them;
none: hosts reach none of them, and they no host; dns_answers=N
or all: how many addresses of one name an answer has, in turn (without it one of
the asker's host and one of another).`,
		Example: "  agentctl network create backend --subnet 10.42.0.0/24",
		Args:    wants(1, 1, "the NAME of the network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r.Name = args[0]
			if err := flags.fill(cmd, &r); err != nil {
				return err
			}
			flags.notices(a)
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.NetworkCreate(ctx, r)
				if err != nil {
					return err
				}
				for _, w := range res.Warnings {
					a.notice("warning", "%s", w)
				}
				return out.print(a.out, res.Network, func(w io.Writer) { fmt.Fprintln(w, res.Network.ID) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.Driver, "driver", "d", "weft", "the `DRIVER`")
	f.StringSliceVar(&r.Subnets, "subnet", nil, "a `CIDR` for addresses, at most one of each family")
	f.StringSliceVar(&r.Gateways, "gateway", nil, "the `IP` that endpoints route through (default the subnet's first)")
	f.StringSliceVar(&r.IPRanges, "ip-range", nil, "give out only addresses of this `CIDR` inside the subnet")
	f.StringSliceVar(&flags.aux, "aux-address", nil, "never give out the address of a device, `NAME=IP`")
	f.BoolVar(&r.Internal, "internal", false, "no way out of the network")
	f.StringArrayVar(&flags.labels, "label", nil, "note `KEY=VALUE` on the network")
	f.StringArrayVarP(&flags.options, "opt", "o", nil, "a driver option `KEY=VALUE`")
	f.BoolVar(&flags.attachable, "attachable", false, "for Docker's command lines: has no effect")
	f.StringVar(&flags.scope, "scope", "", "for Docker's command lines: has no effect, whatever the `SCOPE`")
	f.StringVar(&flags.ipamDriver, "ipam-driver", "", "for Docker's command lines: has no effect, whatever the `DRIVER`")
	out.addFormat(cmd, "") // -o is taken
	return cmd
}

// fill turns the flags into fields of the request.
func (f *createFlags) fill(cmd *cobra.Command, r *api.NetworkCreateRequest) error {
	if r.Driver != "weft" {
		return misuse(cmd, "-d %s: the only driver of this release is weft", r.Driver)
	}
	var err error
	if r.AuxAddresses, err = pairs(f.aux); err != nil {
		return misuse(cmd, "--aux-address %v, want NAME=IP", err)
	}
	if r.Options, err = pairs(f.options); err != nil {
		return misuse(cmd, "-o %v, want KEY=VALUE: -o is a driver option here, the form of the answer is --format", err)
	}
	r.Labels, err = labelMap(cmd, f.labels)
	return err
}

// pairs splits KEY=VALUE words.
func pairs(words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q", w)
		}
		m[key] = value
	}
	return m, nil
}

// notices tells what became of flags that only Docker has a use for.
func (f *createFlags) notices(a *app) {
	if f.attachable {
		a.notice("notice", "--attachable has no effect: every network is attachable")
	}
	if f.scope != "" {
		a.notice("notice", "--scope has no effect: every network is on all hosts")
	}
	if f.ipamDriver != "" {
		a.notice("notice", "--ipam-driver has no effect: addresses come from the cluster's pool")
	}
}
