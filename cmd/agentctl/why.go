package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newWhy(a *app) *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use:   "why SRC DST [PORT[/udp]] [-v]",
		Short: "Say whether one end reaches another, and what is in the way",
		Long: `Say whether one end reaches another, and what is in the way: name, network,
both sandboxes, both kernels, the tunnel between the hosts, and a try from SRC.
SRC is an endpoint, a container, an address of one, or host. DST may also be a
name, a member or any address. Without PORT an ICMP echo is sent.

What works takes one line, and its steps are shown with -v. When something is
broken the steps come first; the answer ends them, with what to type. Exits 1
then.`,
		Example: "  agentctl why web db 5432",
		Args:    wants(2, 3, "SRC, DST and perhaps a PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r := api.WhyRequest{From: args[0], To: args[1]}
			if len(args) > 2 {
				port, proto, _ := strings.Cut(args[2], "/")
				n, err := strconv.ParseUint(port, 10, 16)
				if err != nil || n == 0 || proto != "" && proto != "tcp" && proto != "udp" || strings.HasSuffix(args[2], "/") {
					return misuse(cmd, "%s is no port: 1 to 65535, perhaps with /udp", args[2])
				}
				r.Port, r.Proto = uint16(n), proto
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				why, err := agent.Why(ctx, r)
				if err != nil {
					return err
				}
				if err := out.print(a.out, why, func(w io.Writer) { showWhy(w, why, all) }); err != nil {
					return err
				}
				if !why.Works {
					return api.Errorf(api.KindFailed, "why: %s", why.Sentence).WithHint("%s", why.Hint)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "verbose", "v", false, "show the steps also when it works")
	cmd.ValidArgsFunction = a.complete(endpointNames)
	out.addFlags(cmd, "table")
	return cmd
}

func showWhy(w io.Writer, y api.Why, all bool) {
	if y.Works {
		fmt.Fprintln(w, oneLine(y.Sentence))
	}
	if y.Works && !all {
		return
	}
	line(w, "STEP", "HOST", "STATE", "EVIDENCE")
	for _, s := range y.Steps {
		host := s.Host
		if host == "" {
			host = "-"
		}
		line(w, s.Step, host, s.State, s.Evidence)
	}
}
