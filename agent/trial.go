package agent

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/agent/trial"
	"github.com/weft-net/weft/agent/trial/stage"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/echo"
)

// trialQuestion is how members ask each other for the connectivity suite.
const trialQuestion = "trial"

// newStage makes this host's part of the suite.
func newStage(a *Agent) *stage.Stage {
	var engine stage.Engine
	if a.docker != nil {
		engine = a.docker.Idle()
	}
	return stage.New(stage.Config{Engine: engine, Host: service{a}, Within: within{a.parts.Within, a.parts.Rooms}, Refuses: !a.cfg.Limits.TestPeers, Log: a.log,
		Self: func() string {
			if m := a.member(); m != nil {
				return m.host.Host().Name
			}
			return a.cfg.Name
		}})
}

// within is what a stage asks of this host's namespaces.
type within struct {
	Sandboxes
	Rooms
}

// rooms are made by the package that can.
type rooms struct{}

func (rooms) Make() (path string, room io.Closer, err error) { return echo.Make() }

func (rooms) Serve(path string, at netip.AddrPort, name string) (io.Closer, error) {
	return echo.Serve(path, at, name)
}

func (rooms) Speak(ctx context.Context, path string, s overlay.Speech) (who string, err error) {
	return echo.Speak(ctx, path, s)
}

func (rooms) Resolve(ctx context.Context, path string, server netip.AddrPort, name string, reverse bool) ([]string, error) {
	return echo.Resolve(ctx, path, server, name, reverse)
}

// playFor does what the host asks that runs the suite.
func playFor(a *Agent) peers.Answer {
	return peers.Handler(func(ctx context.Context, _ discovery.HostID, q stage.Question) (stage.Answer, error) {
		if _, err := a.requireMember(); err != nil {
			return stage.Answer{}, err
		}
		return a.stage.Do(ctx, q)
	})
}

// Test implements api.Service.
func (a service) Test(ctx context.Context, r api.TestRequest, progress func(string)) (api.Test, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Test{}, err
	}
	by := api.Caller(ctx)
	out, err := trial.Run(ctx, troupe{a, m}, r, by, progress)
	tellTest(m, out, err, by)
	return out, m.explain("test", err)
}

// tellTest emits how a run went, unless it was refused before it began.
func tellTest(m *member, out api.Test, err error, by string) {
	e := event.Event{Kind: event.TestRun, Subject: out.ID, By: by}
	switch kind := api.KindOf(err); {
	case err == nil:
		e.Text = "connectivity suite: " + trial.Summary(out)
		e.Detail = map[string]any{"passed": out.Passed, "failed": out.Failed, "skipped": out.Skipped, "took_ms": out.Took, "hosts": out.Hosts}
	case kind == api.KindConflict || kind == api.KindMisuse || kind == api.KindNotFound:
		return
	default:
		e.Text = "connectivity suite: it did not end: " + err.Error()
	}
	m.events.Emit(e)
}

// troupe asks the members for the suite.
type troupe struct {
	service
	m *member
}

var _ trial.Cluster = troupe{}

// Self implements trial.Cluster.
func (t troupe) Self() string { return t.m.host.Host().Name }

// Hosts implements trial.Cluster.
func (t troupe) Hosts() (all []trial.Host) {
	for _, o := range t.m.directory.View().Members {
		h := trial.Host{Name: o.Name, Addr: o.Header.VTEP}
		switch o.Status {
		case discovery.StatusLeft:
			continue
		case discovery.StatusAlive, discovery.StatusSuspect:
		default:
			h.Down = "it is " + o.Status.String()
		}
		all = append(all, h)
	}
	return all
}

// Asking implements trial.Cluster.
func (t troupe) Asking(run string) (done func()) { return t.stage.Asking(run) }

// Ask implements trial.Cluster.
func (t troupe) Ask(ctx context.Context, host string, q stage.Question) (stage.Answer, error) {
	if host == t.Self() {
		return t.stage.Do(ctx, q)
	}
	o, ok := witness{t.m}.memberNamed(host)
	if !ok {
		return stage.Answer{}, errors.New("it is no member any more")
	}
	a, err := peers.Ask[stage.Answer](ctx, t.m.directory.Call, o.ID, trialQuestion, q)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return a, errors.New("it does not answer")
	case err != nil:
		return a, errors.New(unasked(o, err).Why)
	}
	return a, nil
}
