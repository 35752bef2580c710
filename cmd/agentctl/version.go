package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// versions is the answer of version. Agentd is nil when it does not answer.
type versions struct {
	Agentctl api.Version  `json:"agentctl"`
	Agentd   *api.Version `json:"agentd"`
}

func newVersion(a *app) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of agentctl and the agent",
		Long: `Show the versions of agentctl and the agent; without an agent it shows its own
and exits 3.`,
		Example: "  agentctl version -o json",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				v := versions{Agentctl: api.OwnVersion()}
				agentd, away := agent.Version(ctx)
				if away == nil {
					v.Agentd = &agentd
				}
				if err := out.print(a.out, v, func(w io.Writer) { showVersions(w, v) }); err != nil {
					return err
				}
				return away
			})
		},
	}
	out.addFlags(cmd, "table")
	return cmd
}

func showVersions(w io.Writer, v versions) {
	line(w, "PROGRAM", "VERSION", "COMMIT", "GO")
	line(w, "agentctl", v.Agentctl.Version, short(v.Agentctl.Commit), v.Agentctl.Go)
	if v.Agentd != nil {
		line(w, "agentd", v.Agentd.Version, short(v.Agentd.Commit), v.Agentd.Go)
	}
}
