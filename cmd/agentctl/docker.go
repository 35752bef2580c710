package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker/setup"
)

func newDocker(a *app) *cobra.Command {
	return group("docker COMMAND", "Make names work in Docker containers",
		"Make names of other hosts work in Docker containers, and see whether they do.",
		"  agentctl docker status", newDockerSetup(a), newDockerStatus(a))
}

// resolvConf is the host's, which Docker reads.
const resolvConf = "/etc/resolv.conf"

func newDockerSetup(a *app) *cobra.Command {
	var undo bool
	var file string
	cmd := &cobra.Command{
		Use:   "setup [--undo] [--file PATH]",
		Short: "Let all Docker containers of this host ask the agent for names",
		Long: `Let all Docker containers of this host ask the agent for names: it puts
169.254.53.53, and behind it the servers that they ask now, into "dns" of
Docker's daemon.json. All else in the file stays; a copy is kept beside it.

Docker reads the file when it starts. --undo takes it back.`,
		Example: "  agentctl docker setup",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			change := func() (bool, error) { return setup.Apply(file, setup.Upstreams(resolvConf)) }
			if undo {
				change = func() (bool, error) { return setup.Revert(file) }
			}
			changed, err := change()
			if err != nil {
				return setupError(file, err)
			}
			a.explainSetup(file, undo, changed)
			return nil
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "ask as before")
	cmd.Flags().StringVar(&file, "file", setup.File, "Docker's configuration, a `PATH`")
	return cmd
}

func setupError(file string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return api.Errorf(api.KindPermission, "docker setup: %v", err).WithHint("sudo agentctl docker setup --file %s", file)
	}
	return api.Errorf(api.KindFailed, "docker setup: %v", err).WithHint("editor %s # Docker does not start with it either", file)
}

// explainSetup says what was done, and what is left to do.
func (a *app) explainSetup(file string, undo, changed bool) {
	if !changed {
		fmt.Fprintln(a.out, oneLine(file+" is so already"))
		return
	}
	fmt.Fprintln(a.out, oneLine(file+" changed"))
	text, err := os.ReadFile(file)
	if err == nil && !undo {
		servers, _ := setup.Servers(text) // they were written a moment ago
		fmt.Fprintln(a.out, oneLine("containers will ask "+strings.Join(servers, ", then ")))
	}
	if err != nil || !setup.LiveRestore(text) {
		a.notice("notice", `a restart of Docker stops its containers: with "live-restore": true in %s and systemctl reload docker, done first, they go on`, file)
	}
	a.notice("notice", "Docker reads it when it starts: systemctl restart docker")
}

// dockerStatus is the answer of docker status.
type dockerStatus struct {
	api.Docker
	State  string `json:"state"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

func newDockerStatus(a *app) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether Docker containers of this host get names",
		Long: `Show whether Docker containers of this host get names of other hosts, and by
which way; exits 1 when they do not.`,
		Example: "  agentctl docker status",
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
				i := slices.IndexFunc(st.Checks, func(c api.Check) bool { return c.Name == "docker-dns" })
				if st.Docker == nil || i < 0 {
					return api.Errorf(api.KindNotFound, "docker status: no Docker engine answers on this host, or it is not a member").WithHint("agentctl status")
				}
				check := st.Checks[i]
				d := dockerStatus{*st.Docker, check.State, check.Detail, check.Hint}
				if err := out.print(a.out, d, func(w io.Writer) { showDocker(w, d) }); err != nil {
					return err
				}
				if check.State == api.CheckOK {
					return nil
				}
				return api.Errorf(api.KindFailed, "docker status: %s", check.Detail).WithHint("%s", check.Hint)
			})
		},
	}
	out.addFlags(cmd, "table")
	return cmd
}

func showDocker(w io.Writer, d dockerStatus) {
	line(w, "WHAT", "FOUND")
	line(w, "engine", d.Engine)
	line(w, "socket", d.Socket)
	line(w, "host's resolvers", strings.Join(d.ResolvConf, ", "))
	line(w, "daemon.json dns", strings.Join(d.DaemonDNS, ", "))
	line(w, "names", d.Detail)
}
