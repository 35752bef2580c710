package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newNetworkPrune(a *app) *cobra.Command {
	var out output
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [-f] [--filter KEY=VALUE]...",
		Short: "Remove the networks without endpoints",
		Long: `Remove the networks that no endpoint of any host is on, and print their names.

The endpoints of dead hosts keep their networks. Filters are until=24h or
until=2026-01-31 (made before that), label=KEY, label=KEY=VALUE, and label!=
with the same.`,
		Example: "  agentctl network prune -f --filter until=24h",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r, err := pruneRequest(cmd, filters)
			if err != nil {
				return err
			}
			if !force && !a.confirm("This will remove all networks that no endpoint is on.") {
				return api.Errorf(api.KindFailed, "network prune: not confirmed").WithHint("agentctl network prune -f")
			}
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.NetworkPrune(ctx, r)
				if err != nil {
					return err
				}
				err = out.print(a.out, res, func(w io.Writer) { showPruned(w, res) })
				for i := range res.Failures {
					err = errors.Join(err, &res.Failures[i])
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "remove only networks with `KEY=VALUE`")
	out.addFlags(cmd, "table")
	return cmd
}

// pruneRequest reads the filters.
func pruneRequest(cmd *cobra.Command, filters []string) (api.PruneRequest, error) {
	var r api.PruneRequest
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		switch {
		case ok && key == "until" && r.Until == "":
			if _, err := api.ParseUntil(value, time.Now()); err != nil {
				return r, misuse(cmd, "--filter %v", err)
			}
			r.Until = value
		case ok && key == "until":
			return r, misuse(cmd, "--filter %s: a second until", f)
		case ok && (key == "label" || key == "label!") && labelKey(value) != nil:
			return r, misuse(cmd, "--filter %s: %v", f, labelKey(value))
		case ok && key == "label":
			r.Labels = append(r.Labels, value)
		case ok && key == "label!":
			r.NotLabels = append(r.NotLabels, value)
		default:
			return r, misuse(cmd, "--filter %s: want one of label=, label!=, until=", f)
		}
	}
	return r, nil
}

// confirm asks whether to go on, as Docker does: only y is yes.
func (a *app) confirm(warning string) bool {
	fmt.Fprintf(a.err, "WARNING! %s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(a.in).ReadString('\n')
	if !isTerminal(a.in) {
		fmt.Fprintln(a.err)
	}
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func showPruned(w io.Writer, r api.PruneResult) {
	if len(r.Deleted) == 0 {
		return
	}
	fmt.Fprintln(w, "Deleted Networks:")
	for _, n := range r.Deleted {
		fmt.Fprintln(w, oneLine(n))
	}
	fmt.Fprintln(w)
}
