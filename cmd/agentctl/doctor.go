package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/environment"
	"github.com/weft-net/weft/agent/environment/survey"
)

func newDoctor(a *app) *cobra.Command {
	var out output
	var strict bool
	cmd := &cobra.Command{
		Use:   "doctor [--strict]",
		Short: "Say what is wrong on this host and what to type about it",
		Long: `Say what is wrong on this host and what to type about it; exits 1 when
anything is, with --strict also when something only deserves a look.

It shows what status checks, and looks at what surrounds the agent: tracked
connections, the uplink and what it does for tunnels, reverse path filters, disk
space, who has the ports, packet filters of others, programs that are called,
clocks and releases of the members, which resolvers answer and how fast, and how
fast the store does. Without an agent it says what can be seen without it.

What a firewall between the hosts must let through, with the default ports:

    nft add rule inet filter input tcp dport 4798 accept
    nft add rule inet filter input udp dport '{ 4798, 4799 }' accept

and that of a host, for names that its endpoints ask for: man weft-operations`,
		Example: "  agentctl doctor --strict",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				all, err := a.examine(ctx, agent)
				if err != nil {
					return err
				}
				if err := out.print(a.out, all, func(w io.Writer) { showFindings(w, all) }); err != nil {
					return err
				}
				return findings(all, strict)
			})
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "a warning is a failure")
	out.addFlags(cmd, "table")
	return cmd
}

// examine asks the agent. What it does not answer is looked at without it: by somebody
// who may only read its status, and by everybody while it is down.
func (a *app) examine(ctx context.Context, agent api.Service) ([]api.Finding, error) {
	all, err := agent.Doctor(ctx)
	switch api.KindOf(err) {
	case api.KindPermission, api.KindMisuse: // an older agent has no such call
		st, err := agent.Status(ctx)
		if err != nil {
			return nil, err
		}
		return append(api.Findings(st), a.survey(ctx, st.PID)...), nil
	case api.KindUnreachable:
		e, _ := errors.AsType[*api.Error](err)
		return append([]api.Finding{environment.Down(a.agentSocket(), err, e.Hint)}, a.survey(ctx, 0)...), nil
	}
	return all, err
}

// survey is what can be seen without the agent of process pid; 0: there is none. Which
// ports and directories it has is known of one with the default configuration alone.
func (a *app) survey(ctx context.Context, pid int) []api.Finding {
	f := environment.Facts{Conntrack: survey.Conntrack(), Firewall: survey.Firewall(ctx, "weft"),
		Programs:  survey.Programs(ctx, [][2]string{{"nft", "all packet filter rules"}, {"iptables", "letting packets pass the filters of Docker and others"}}),
		Resolvers: survey.Resolvers(ctx, survey.HostResolvers("/etc/resolv.conf"))}
	if socket := a.agentSocket(); socket != api.DefaultSocket {
		return environment.Checks(f)
	}
	f.Space = survey.Dirs("/var/lib/weft", filepath.Dir(api.DefaultSocket))
	f.Ports = []environment.Port{survey.Port("for gossip", "tcp", 4798, pid, false), survey.Port("for gossip", "udp", 4798, pid, false), survey.TunnelPort(4799, false)}
	return environment.Checks(f)
}

// showFindings puts under each check what to type, where it is not well.
func showFindings(w io.Writer, checks []api.Finding) {
	line(w, "STATE", "CHECK", "EVIDENCE")
	for _, c := range checks {
		state := c.State
		if state == api.CheckFail {
			state = "FAIL"
		}
		line(w, state, c.ID, c.Evidence)
		if c.State == api.CheckOK {
			continue
		}
		for hint := range strings.Lines(c.Hint) {
			line(w, "fix", c.ID, strings.TrimSpace(hint))
		}
	}
}

// findings is what the exit code says; the table has said the rest.
func findings(checks []api.Finding, strict bool) error {
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
