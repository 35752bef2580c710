package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/chronicle"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/environment/survey"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/history"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

func newHistory(cfg config.Config, log *slog.Logger) *history.Journal {
	return history.New(history.Config{Dir: filepath.Join(cfg.DataDir, datadir.HistoryDir), Max: cfg.History.Max, Age: cfg.History.Age, Host: cfg.Name, Log: log})
}

// keepHistory writes events down until the function that it returns is called. The
// first says that the agent began, the last that it ends, and why.
func keepHistory(a *Agent, why *error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.history.Run(ctx)
	}()
	began := time.Now()
	a.history.Emit(event.Event{Kind: event.AgentStarted, Subject: a.cfg.Name, Text: "agentd " + api.Release() + " started",
		Detail: map[string]any{"version": api.Release(), "pid": os.Getpid()}})
	return func() {
		text := fmt.Sprintf("agentd stopped after %s", time.Since(began).Round(time.Second))
		if *why != nil {
			text += ": " + (*why).Error()
		}
		a.history.Emit(event.Event{Kind: event.AgentStopped, Subject: a.cfg.Name, Text: text})
		cancel()
		<-done
	}
}

// chronicle is the histories of all members; of this host alone while it is none.
func (a service) chronicle() chronicle.Chronicle {
	c := chronicle.Chronicle{Self: a.cfg.Name, Own: a.history, Unasked: unasked,
		Others: func() ([]discovery.Member, []api.Unasked) { return nil, nil }}
	m := a.member()
	if m == nil {
		return c
	}
	c.Self, c.Call = m.host.Host().Name, m.directory.Call
	c.Others = func() (running []discovery.Member, silent []api.Unasked) {
		running, down := others(m)
		for _, o := range down {
			silent = append(silent, api.Unasked{Host: o.Name, Why: "it is " + o.Status.String()})
		}
		return running, silent
	}
	return c
}

// Events implements api.Service.
func (a service) Events(ctx context.Context, q api.EventQuery, each func(api.EventItem) error) error {
	return a.chronicle().Events(ctx, q, each)
}

// EndpointHistory implements api.Service.
func (a service) EndpointHistory(ctx context.Context, nameOrAddress, at string) (api.EndpointHistory, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.EndpointHistory{}, err
	}
	out, err := a.chronicle().Endpoint(ctx, nameOrAddress, at, m.allEndpoints())
	if err == nil && len(out.Spans) == 0 && at == "" && len(out.Unasked) == 0 {
		return out, api.Errorf(api.KindNotFound, "no endpoint was ever %s, as far as is written down", nameOrAddress).WithHint("agentctl endpoint ls --all")
	}
	return out, err
}

// checkHistory is the line of status about the journal.
func checkHistory(a *Agent) api.Check {
	return diagnose.History(filepath.Join(a.cfg.DataDir, datadir.HistoryDir), a.history.State())
}

// refusals emits what a border turned away.
func refusals(sink event.Sink) func(strict.Border, strict.Refused) {
	return func(b strict.Border, r strict.Refused) {
		sink.Emit(event.Event{Kind: event.Refused, Subject: r.Source, Text: r.Error(), Detail: map[string]any{"border": string(b), "hint": r.Hint}})
	}
}

// repairs emits what was repaired, and quarrels with other programs.
func repairs(sink event.Sink, self string) func(overlay.Repair) {
	return func(r overlay.Repair) {
		sink.Emit(event.Event{Kind: event.DriftRepaired, Subject: self, Text: fmt.Sprintf("objects of the kernel put back: %d", r.Objects),
			Detail: map[string]any{"commands": r.Commands, "objects": r.Objects, "kinds": r.Kinds}})
		if len(r.Quarrels) == 0 {
			return
		}
		speak, text := survey.Speakers(), "another program undoes this again and again"
		if len(speak) > 0 {
			text += "; of those that run, these can: " + strings.Join(speak, ", ")
		}
		for _, command := range r.Quarrels {
			sink.Emit(event.Event{Kind: event.Quarrel, Subject: command, Text: text, Detail: map[string]any{"programs": speak}})
		}
	}
}

// noteLease emits that an address has an owner, or has none any more.
func (o *opening) noteLease(ctx context.Context, l ipam.Owned, freed bool) {
	e := event.Event{Kind: event.AddressLeased, Network: o.networks.NameOf(l.Network), Endpoint: l.Owner.String(), Addr: l.Addr.Addr().String(), By: api.Caller(ctx)}
	e.Text = e.Addr + " leased"
	if freed {
		e.Kind, e.Text = event.AddressFreed, e.Addr+" freed"
	}
	if own, ok := o.journal.Get(l.Owner); ok {
		e.Subject = own.Endpoint.Name
	}
	o.events.Emit(e)
}

// tellMember emits what became of a host as a member.
func tellMember(ctx context.Context, m *member, kind event.Kind, what string) {
	name := m.host.Host().Name
	m.events.Emit(event.Event{Kind: kind, Subject: name, Addr: m.cfg.Advertise.String(), By: api.Caller(ctx), Text: name + " " + what,
		Detail: map[string]any{"cluster": m.host.Cluster().ID}})
}

// tellForced emits that a host was taken out by force.
func tellForced(ctx context.Context, m *member, r api.LeaveRequest, err error) {
	e := event.Event{Kind: event.Forced, Subject: r.Name, By: api.Caller(ctx), Text: r.Name + " was taken out of the cluster by force", Detail: map[string]any{"even_if_running": r.EvenIfRunning}}
	if err == nil {
		m.events.Emit(e)
	}
}
