package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newMembers(a *app) *cobra.Command {
	var out output
	var watch bool
	cmd := &cobra.Command{
		Use:   "members [--watch]",
		Short: "Show the hosts of the cluster",
		Long: `Show the hosts of the cluster, this one included, with their state, version and
round-trip time. TUNNEL says whether this host and that one get each other's
packets, and when that was tried last: ok, failing, stale or unproven.

With --watch the list is shown again whenever it changes: redrawn on a terminal,
else one JSON array a line.`,
		Example: "  agentctl members -o json",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			if watch {
				return a.call(cmd, endless, func(ctx context.Context, agent api.Service) error {
					return a.watchMembers(ctx, agent, a.watchPrinter(cmd, &out))
				})
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				list, err := sortedMembers(ctx, agent)
				if err != nil {
					return err
				}
				return out.print(a.out, list, func(w io.Writer) { showMembers(w, list) })
			})
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted")
	out.addFlags(cmd, "table")
	return cmd
}

func sortedMembers(ctx context.Context, agent api.Service) ([]api.Member, error) {
	list, err := agent.Members(ctx)
	slices.SortFunc(list, func(x, y api.Member) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return list, err
}

func showMembers(w io.Writer, list []api.Member) {
	line(w, "NAME", "ADDRESS", "STATUS", "VERSION", "RTT", "TUNNEL")
	for _, m := range list {
		line(w, m.Name, m.Address, m.Status, m.Version, milliseconds(m.RTT), proven(m))
	}
}

// proven is how well the tunnel to a member works, and when that was proven.
func proven(m api.Member) string {
	if m.TunnelAge == 0 {
		return m.Tunnel
	}
	return fmt.Sprintf("%s %.0fs ago", m.Tunnel, m.TunnelAge)
}

// milliseconds is a time of the network, empty when it is not known.
func milliseconds(ms float64) string {
	if ms == 0 {
		return ""
	}
	return fmt.Sprintf("%.2fms", ms)
}

// watchPrinter returns what prints one state of the members: a program that
// reads a pipe needs whole states, one a line.
func (a *app) watchPrinter(cmd *cobra.Command, out *output) func([]api.Member) error {
	piped := !isTerminal(a.out)
	if piped && !cmd.Flags().Changed("output") && out.template == nil {
		out.form = "jsonl"
	}
	return func(list []api.Member) error {
		var b bytes.Buffer
		if !piped {
			b.WriteString("\x1b[H\x1b[2J") // home, and clear (ECMA-48, CUP and ED)
		}
		var err error
		if out.template == nil && (out.form == "json" || out.form == "jsonl") {
			err = writeJSON(&b, "", list)
		} else {
			err = out.print(&b, list, func(w io.Writer) { showMembers(w, list) })
		}
		if err != nil {
			return err
		}
		_, err = a.out.Write(b.Bytes())
		return err
	}
}

// watchMembers calls show with the members, again after each change, until ctx
// ends. Round-trip times and the age of proofs always change, and are no reason.
func (a *app) watchMembers(ctx context.Context, agent api.Service, show func([]api.Member) error) error {
	tick := time.NewTicker(a.poll)
	defer tick.Stop()
	var last []api.Member
	for first := true; ; first = false {
		list, err := sortedMembers(ctx, agent)
		switch {
		case ctx.Err() != nil:
			return nil // the way in which a watch ends
		case err != nil:
			return err
		case first || !slices.EqualFunc(list, last, sameMember):
			if err := show(list); err != nil {
				return err
			}
			last = list
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func sameMember(x, y api.Member) bool {
	x.RTT, y.RTT, x.TunnelAge, y.TunnelAge = 0, 0, 0, 0
	return x == y
}
