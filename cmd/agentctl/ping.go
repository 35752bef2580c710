package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newPing(a *app) *cobra.Command {
	var out output
	var r api.PingRequest
	var all bool
	cmd := &cobra.Command{
		Use:   "ping NAME|ADDRESS [--from ENDPOINT|host] | --all",
		Short: "Send ICMP echoes from an endpoint, or prove the tunnel between all hosts",
		Long: `Send ICMP echoes from an endpoint's own namespace, or from this host, and show
which host answers, by which way, how fast, and what is lost. Exits 1 when none
comes back, with what why says.

With --all every member proves its tunnel to each other one anew. The table has
a row for each host that was asked: the median round trip, or what is wrong.`,
		Example: "  agentctl ping db --from web --size 1400 --df",
		Args:    wants(0, 1, "a NAME or an ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			if err := checkPing(cmd, r, all, args); err != nil {
				return err
			}
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				if all {
					return a.pingAll(ctx, agent, &out)
				}
				r.To = args[0]
				return a.ping(ctx, agent, &out, r)
			})
		},
	}
	cmd.Flags().StringVar(&r.From, "from", "host", "the sender, an `ENDPOINT` of any host, or host")
	cmd.Flags().IntVarP(&r.Count, "count", "c", 4, "send `N` echoes, 1 to 100")
	cmd.Flags().IntVar(&r.Size, "size", 56, "put `N` bytes of data into each, 1 to 65000")
	cmd.Flags().BoolVar(&r.Whole, "df", false, "do not let the packets be fragmented")
	cmd.Flags().BoolVar(&all, "all", false, "prove the tunnel between each two hosts")
	cmd.ValidArgsFunction = a.completeFirst(endpointNames)
	_ = cmd.RegisterFlagCompletionFunc("from", a.complete(endpointNames))
	out.addFlags(cmd, "table")
	return cmd
}

// checkPing refuses what cannot be meant.
func checkPing(cmd *cobra.Command, r api.PingRequest, all bool, args []string) error {
	changed := slices.ContainsFunc([]string{"from", "count", "size", "df"}, cmd.Flags().Changed)
	switch {
	case all && (len(args) > 0 || changed):
		return misuse(cmd, "--all takes neither NAME nor --from, -c, --size, --df")
	case !all && len(args) == 0:
		return misuse(cmd, "needs a NAME or an ADDRESS, or --all")
	case r.Count < 1 || r.Count > 100:
		return misuse(cmd, "-c %d: want a number from 1 to 100", r.Count)
	case r.Size < 1 || r.Size > 65000:
		return misuse(cmd, "--size %d: want a number from 1 to 65000", r.Size)
	}
	return nil
}

func (a *app) ping(ctx context.Context, agent api.Service, out *output, r api.PingRequest) error {
	p, err := agent.Ping(ctx, r)
	if err != nil {
		return err
	}
	if err := out.print(a.out, p, func(w io.Writer) { showPing(w, p) }); err != nil {
		return err
	}
	if p.Received == 0 {
		return api.Errorf(api.KindFailed, "ping: %s", cmp.Or(p.Why, "nothing came back")).WithHint("%s", cmp.Or(p.Hint, "agentctl why "+r.From+" "+r.To))
	}
	return nil
}

func showPing(w io.Writer, p api.Ping) {
	at := ""
	if p.Host != "" {
		at = " on " + p.Host
	}
	fmt.Fprintln(w, oneLine(fmt.Sprintf("%s to %s (%s)%s: %s", p.From, p.To, p.Address, at, p.Way)))
	line(w, "SEQ", "STATE", "RTT")
	for _, reply := range p.Replies {
		line(w, fmt.Sprint(reply.Seq), reply.State, cmp.Or(microseconds(reply.RTT), "-"))
	}
	summary := fmt.Sprintf("%d sent, %d came back, %.0f%% lost", p.Sent, p.Received, p.Loss)
	if p.Received > 0 {
		summary += fmt.Sprintf("; %s least, %s mean, %s most", microseconds(p.Least), microseconds(p.Mean), microseconds(p.Most))
	}
	fmt.Fprintln(w, summary)
}

// microseconds is milliseconds of what the API gives in whole microseconds.
func microseconds(us int64) string { return milliseconds(float64(us) / 1000) }

func (a *app) pingAll(ctx context.Context, agent api.Service, out *output) error {
	m, err := agent.Mesh(ctx, true)
	if err != nil {
		return err
	}
	slices.Sort(m.Hosts)
	slices.SortFunc(m.Ways, func(x, y api.MeshWay) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.Proof.Peer, y.Proof.Peer))
	})
	if err := out.print(a.out, m, func(w io.Writer) { showMesh(w, m) }); err != nil {
		return err
	}
	return meshError(m)
}

// showMesh is a matrix: a row for who sends, a column for who receives.
func showMesh(w io.Writer, m api.Mesh) {
	cells, columns := map[[2]string]string{}, slices.Clone(m.Hosts)
	for _, way := range m.Ways {
		cell := way.State
		if way.State == "ok" {
			cell = cmp.Or(microseconds(way.Proof.Median), way.State)
		}
		cells[[2]string{way.From, way.Proof.Peer}] = cell
		columns = append(columns, way.Proof.Peer)
	}
	slices.Sort(columns)
	columns = slices.Compact(columns)
	line(w, append([]string{"FROM"}, columns...)...)
	for _, from := range m.Hosts {
		row := []string{from}
		for _, to := range columns {
			row = append(row, cmp.Or(cells[[2]string{from, to}], "-"))
		}
		line(w, row...)
	}
	for _, u := range m.Unasked {
		line(w, u.Host, u.Why)
	}
	for _, way := range m.Ways {
		if way.Proof.Why != "" {
			fmt.Fprintln(w, oneLine(fmt.Sprintf("%s to %s: %s", way.From, way.Proof.Peer, way.Proof.Why)))
		}
	}
}

// meshError is what the exit code says.
func meshError(m api.Mesh) error {
	var bad, unasked []string
	hint := ""
	for _, way := range m.Ways {
		if way.State != "ok" {
			bad = append(bad, way.From+" to "+way.Proof.Peer)
			hint = cmp.Or(hint, way.Proof.Hint)
		}
	}
	for _, u := range m.Unasked {
		unasked = append(unasked, u.Host)
	}
	var parts []string
	if len(bad) > 0 {
		parts = append(parts, "the tunnel is not proven to work: "+strings.Join(bad, ", "))
	}
	if len(unasked) > 0 {
		parts = append(parts, "members that were not asked: "+strings.Join(unasked, ", "))
	}
	if len(parts) == 0 {
		return nil
	}
	return api.Errorf(api.KindFailed, "ping: %s", strings.Join(parts, "; ")).WithHint("%s", cmp.Or(hint, "agentctl members"))
}
