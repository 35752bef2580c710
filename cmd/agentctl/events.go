package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// eventKinds are what --kind takes.
var eventKinds = []string{
	"member-joined", "member-left", "member-dead", "member-alive", "agent-down", "network-created", "network-removed",
	"endpoint-attached", "endpoint-detached", "endpoint-moved", "address-leased", "address-freed", "conflict",
	"drift-repaired", "quarrel", "tunnel-failing", "tunnel-ok", "mtu-lowered", "store-away", "store-back",
	"config-reloaded", "agent-started", "agent-stopped", "test-run", "forced", "refused", "events-lost",
}

func newEvents(a *app) *cobra.Command {
	var q api.EventQuery
	var out output
	cmd := &cobra.Command{
		Use:   "events [-f] [--since TIME] [--until TIME] [--kind KIND]... [--network NAME] [--endpoint NAME] [--host NAME] [--all]",
		Short: "Show what happened, and who asked for it",
		Long: `Show what happened on this host, and who asked for it: a user, a runtime, or the
host itself. Each host writes down what it does and sees, for thirty days;
--all asks all members, and --host one of them.

A TIME is a duration back from now, such as 1h, or a date and time, such as
2026-01-02T15:04:05. Without --since, the last day is shown; with -f, what
happens from now on.

The kinds are ` + wrapped(eventKinds, 66) + `.`,
		Example: "  agentctl events --all --since 1h --kind member-dead",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			for _, k := range q.Kinds {
				if !slices.Contains(eventKinds, k) {
					return misuse(cmd, "--kind %s: there is none of this name", k)
				}
			}
			if q.Since == "" && !q.Follow {
				q.Since = "24h"
			}
			limit := longCall
			if q.Follow {
				limit = endless
			}
			return a.call(cmd, limit, func(ctx context.Context, agent api.Service) error { return a.showEvents(ctx, agent, q, &out) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on until interrupted")
	f.StringVar(&q.Since, "since", "", "from this `TIME` on (default 24h)")
	f.StringVar(&q.Until, "until", "", "up to this `TIME`")
	f.StringArrayVar(&q.Kinds, "kind", nil, "only those of the `KIND`")
	f.StringVar(&q.Network, "network", "", "only those of the network `NAME`")
	f.StringVar(&q.Endpoint, "endpoint", "", "only those of the endpoint, a `NAME`, address or id")
	f.StringVar(&q.Host, "host", "", "those that the host `NAME` wrote down")
	f.BoolVar(&q.All, "all", false, "those of all hosts")
	out.addFlags(cmd, "table")
	cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(eventKinds, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("network", a.complete(networkNames))
	cmd.RegisterFlagCompletionFunc("endpoint", a.complete(endpointNames))
	cmd.RegisterFlagCompletionFunc("host", a.complete(memberNames))
	return cmd
}

// wrapped is a list as lines of the help.
func wrapped(words []string, width int) string {
	var b strings.Builder
	column := len("The kinds are ")
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
			if column += len(w) + 2; column > width {
				b.WriteByte('\n')
				column = len(w)
			} else {
				b.WriteByte(' ')
			}
		} else {
			column += len(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// showEvents prints events: as they come in lines, at the end where the form is one
// for all of them.
func (a *app) showEvents(ctx context.Context, agent api.Service, q api.EventQuery, out *output) error {
	list := []api.Event{}
	table := out.template == nil && out.form == "table"
	stream := table || out.template != nil || out.form == "jsonl" || q.Follow
	err := agent.Events(ctx, q, func(i api.EventItem) error {
		switch {
		case i.Unasked != nil:
			a.notice("warning", "%s was not asked: %s", i.Unasked.Host, i.Unasked.Why)
			return nil
		case i.Event == nil:
			return nil
		case !stream:
			list = append(list, *i.Event)
			return nil
		case table:
			return writeEvent(a.out, *i.Event)
		}
		one := *out
		if one.form == "json" { // of a stream there is no end to close an array at
			one.form = "jsonl"
		}
		return one.print(a.out, []api.Event{*i.Event}, nil)
	})
	if q.Follow && errors.Is(context.Cause(ctx), context.Canceled) && ctx.Err() != nil {
		return nil // the way in which it ends
	}
	if err != nil || stream {
		return err
	}
	return out.print(a.out, list, nil)
}

// writeEvent writes one line for people: the columns that vary least come first.
func writeEvent(w io.Writer, e api.Event) error {
	var b bytes.Buffer
	b.WriteString(oneLine(e.At.Local().Format("2006-01-02T15:04:05.000") + "  " + padded(e.Host, 12) + "  " + padded(e.Kind, 17) + "  " + padded(e.By, 16) + "  " + e.Text))
	b.WriteByte('\n')
	for _, c := range commands(e) {
		b.WriteString("    " + oneLine(c) + "\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// commands are those of a repair.
func commands(e api.Event) (out []string) {
	list, _ := e.Detail["commands"].([]any)
	for _, c := range list {
		if text, ok := c.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// padded fills a cell of a table whose other rows are not known yet.
func padded(s string, width int) string {
	if s == "" {
		s = "-"
	}
	return s + strings.Repeat(" ", max(width-len(s), 0))
}

func newEndpointHistory(a *app) *cobra.Command {
	var out output
	var at string
	cmd := &cobra.Command{
		Use:   "history NAME|ADDRESS [--at TIME]",
		Short: "Show who had a name or an address, when and where",
		Long: `Show who had a name or an address, when and where, out of what all hosts have
written down.

A TIME is a duration back from now, such as 1h, or a date and time, such as
2026-01-02T15:04:05. What has no begin is older than what is written down.`,
		Example: "  agentctl endpoint history 10.64.0.5 --at 2h",
		Args:    wants(1, 1, "the NAME or ADDRESS of an endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				h, err := agent.EndpointHistory(ctx, args[0], at)
				if err != nil {
					return err
				}
				for _, u := range h.Unasked {
					a.notice("warning", "%s was not asked: %s", u.Host, u.Why)
				}
				return out.print(a.out, h.Spans, func(w io.Writer) { showSpans(w, h.Spans) })
			})
		},
		ValidArgsFunction: a.completeFirst(endpointNames),
	}
	cmd.Flags().StringVar(&at, "at", "", "only who had it at this `TIME`")
	out.addFlags(cmd, "table")
	return cmd
}

func showSpans(w io.Writer, list []api.EndpointSpan) {
	line(w, "FROM", "TO", "NAME", "NETWORK", "ADDRESS", "HOST", "ENDPOINT ID", "BY", "END")
	for _, s := range list {
		line(w, moment(s.From), moment(s.To), s.Name, s.Network, s.Address, s.Host, short(s.ID), s.By, s.Why)
	}
}

// moment is a time as people read it; empty: none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}
