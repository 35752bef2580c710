package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newStatus(a *app) *cobra.Command {
	var out output
	var wait bool
	cmd := &cobra.Command{
		Use:   "status [--wait]",
		Short: "Show the state of this host and what was checked",
		Long: `Show the state of this host and what was checked; exits 1 unless the state is
ok.

The state is degraded while something fails: a member that is dead or whose
agent is down, a tunnel to a host with the same network, the store, or all
resolvers for other names. After the agent's start it is starting, for at most
30 seconds, until store and members were read and a pass was made over both;
what ran before goes on meanwhile.

With --wait it waits until the state is ok, and exits 6 when that takes longer
than --timeout (default 1m).`,
		Example: "  agentctl status --wait --timeout 2m",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			look, limit := api.Service.Status, shortCall
			if wait {
				look, limit = a.waitStatus, waitCall
			}
			return a.call(cmd, limit, func(ctx context.Context, agent api.Service) error {
				st, err := look(agent, ctx)
				if st.State != "" {
					if err := out.print(a.out, st, func(w io.Writer) { showStatus(w, st) }); err != nil {
						return err
					}
				}
				if err != nil {
					return err
				}
				return stateError(st)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the state is ok")
	out.addFlags(cmd, "table")
	return cmd
}

// waitStatus asks until the state is ok or can never become it, and returns the
// last state. An agent that does not answer may be about to start.
//
//nolint:revive // the order is that of the method expression api.Service.Status
func (a *app) waitStatus(agent api.Service, ctx context.Context) (api.Status, error) {
	tick := time.NewTicker(a.poll)
	defer tick.Stop()
	var last api.Status
	away, wait := "the agent does not answer", waiting{app: a}
	for {
		st, err := agent.Status(ctx)
		switch kind := api.KindOf(err); {
		case err == nil && (st.State == "ok" || st.State == "forgotten"):
			return st, nil
		case err == nil:
			last, away = st, stateError(st).Error()
		case kind != api.KindUnreachable && kind != api.KindTimeout:
			return last, err
		}
		wait.progress(away)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, api.Errorf(api.KindTimeout, "status --wait: gave up: %s", away)
		}
	}
}

func showStatus(w io.Writer, s api.Status) {
	facts := s.Name + ": " + s.State
	if s.Cluster != "" {
		facts += ", cluster " + s.Cluster
	}
	fmt.Fprintln(w, oneLine(facts+", agentd "+s.Version+" at "+s.Address))
	if len(s.Checks) == 0 {
		return
	}
	fmt.Fprintln(w)
	line(w, "CHECK", "STATE", "DETAIL")
	for _, c := range s.Checks {
		state := c.State
		if state == api.CheckFail {
			state = "FAIL"
		}
		line(w, c.Name, state, c.Detail)
	}
}

// stateError is what the exit code says about a state: nil for ok. Its hints are
// those of the checks.
func stateError(s api.Status) error {
	if s.State == "ok" {
		return nil
	}
	var bad, hints []string
	for _, c := range s.Checks {
		if c.State == api.CheckOK {
			continue
		}
		bad = append(bad, c.Name+" ("+c.Detail+")")
		for hint := range strings.Lines(c.Hint) {
			if hint = strings.TrimSpace(hint); !slices.Contains(hints, hint) {
				hints = append(hints, hint)
			}
		}
	}
	why := s.State
	if len(bad) > 0 {
		why += ": " + strings.Join(bad, ", ")
	}
	return api.Errorf(api.KindFailed, "status: %s", why).WithHint("%s", strings.Join(hints, "\n"))
}
