package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newDoctor(a *app) *cobra.Command {
	var out output
	var strict bool
	cmd := &cobra.Command{
		Use:   "doctor [--strict]",
		Short: "Say what is wrong on this host and what to type about it",
		Long: `Say what is wrong on this host and what to type about it; exits 1 when
anything is, with --strict also when something only deserves a look.

What a firewall between the hosts must let through, with the default ports:

    nft add rule inet filter input tcp dport 4798 accept
    nft add rule inet filter input udp dport '{ 4798, 4799 }' accept`,
		Example: "  agentctl doctor --strict",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				st, err := agent.Status(ctx)
				if err != nil {
					return err
				}
				if err := out.print(a.out, st.Checks, func(w io.Writer) { showFindings(w, st.Checks) }); err != nil {
					return err
				}
				return findings(st.Checks, strict)
			})
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "a warning is a failure")
	out.addFlags(cmd, "table")
	return cmd
}

// showFindings puts under each check what to type, where it is not well.
func showFindings(w io.Writer, checks []api.Check) {
	line(w, "STATE", "CHECK", "DETAIL")
	for _, c := range checks {
		state := c.State
		if state == api.CheckFail {
			state = "FAIL"
		}
		line(w, state, c.Name, c.Detail)
		if c.State == api.CheckOK {
			continue
		}
		for hint := range strings.Lines(c.Hint) {
			line(w, "fix", c.Name, strings.TrimSpace(hint))
		}
	}
}

// findings is what the exit code says; the table has said the rest.
func findings(checks []api.Check, strict bool) error {
	failed, warned := 0, 0
	for _, c := range checks {
		switch c.State {
		case api.CheckFail:
			failed++
		case api.CheckWarn:
			warned++
		}
	}
	if failed == 0 && (warned == 0 || !strict) {
		return nil
	}
	return api.Errorf(api.KindFailed, "doctor: %s", fmt.Sprintf("%d of %d checks failed, %d deserve a look", failed, len(checks), warned))
}
