package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newVerify(a *app) *cobra.Command {
	var out output
	var r api.VerifyRequest
	cmd := &cobra.Command{
		Use:   "verify [--repair] [--all]",
		Short: "Compare the kernel with what the agent wants in it",
		Long: `Compare the kernel with what the agent wants in it: devices, addresses, routes,
FDB and neighbour entries, packet filter, settings. Each difference is shown as
the command that mends it. The agent mends them by itself within two seconds:
what is shown here is new, or cannot be mended.

Exits 1 while there is any that is not repaired.`,
		Example: "  agentctl verify --all",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				v, err := agent.Verify(ctx, r)
				if err != nil {
					return err
				}
				slices.SortStableFunc(v.Drift, func(x, y api.Drift) int {
					return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Network, y.Network))
				})
				if err := out.print(a.out, v, func(w io.Writer) { showDrift(w, v) }); err != nil {
					return err
				}
				return driftError(v)
			})
		},
	}
	cmd.Flags().BoolVar(&r.Repair, "repair", false, "mend now what differs")
	cmd.Flags().BoolVar(&r.All, "all", false, "on every alive member")
	out.addFlags(cmd, "table")
	return cmd
}

func showDrift(w io.Writer, v api.Verification) {
	if len(v.Drift) > 0 {
		line(w, "HOST", "NETWORK", "KIND", "REPAIRED", "COMMAND")
	}
	for _, d := range v.Drift {
		repaired := "no"
		if d.Repaired {
			repaired = "yes"
		}
		line(w, d.Host, cmp.Or(d.Network, "-"), d.Kind, repaired, d.Object)
	}
	for _, u := range v.Unasked {
		line(w, u.Host, "-", "unknown", "no", u.Why)
	}
	if len(v.Drift) == 0 {
		fmt.Fprintf(w, "%d objects checked, all as wanted\n", v.Checked)
	}
}

// driftError is what the exit code says; the table has said the rest.
func driftError(v api.Verification) error {
	left := 0
	for _, d := range v.Drift {
		if !d.Repaired {
			left++
		}
	}
	if left > 0 {
		return api.Errorf(api.KindFailed, "verify: %d of %d objects are not as wanted", left, v.Checked).WithHint("agentctl verify --repair\nagentctl status # what cannot be mended, and why")
	}
	if n := len(v.Unasked); n > 0 {
		return api.Errorf(api.KindFailed, "verify: members that were not asked: %d", n).WithHint("agentctl members")
	}
	return nil
}
