package chronicle

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/history"
)

// Endpoint says who had a name or an address, out of the histories of all members and
// of the endpoints that exist now.
func (c Chronicle) Endpoint(ctx context.Context, word, at string, now []api.Endpoint) (out api.EndpointHistory, err error) {
	var when time.Time
	if at != "" {
		if when, err = api.ParseTime("at", at, time.Now()); err != nil {
			return out, err
		}
	}
	all, silent, err := c.sources("", true, history.Filter{Endpoint: word, Kinds: []event.Kind{event.EndpointAttached, event.EndpointDetached}})
	if err != nil {
		return out, err
	}
	out.Unasked = silent
	var events []api.Event
	err = drain(ctx, all, func(i api.EventItem) error {
		switch {
		case i.Event != nil:
			events = append(events, *i.Event)
		case i.Unasked != nil:
			out.Unasked = append(out.Unasked, *i.Unasked)
		}
		return nil
	})
	out.Spans = Spans(events, matching(now, word))
	noteGone(out.Spans, now)
	if at != "" {
		out.Spans = slices.DeleteFunc(out.Spans, func(s api.EndpointSpan) bool { return !Covers(s, when) })
	}
	return out, err
}

// matching are the endpoints that a word calls.
func matching(all []api.Endpoint, word string) (out []api.Endpoint) {
	for _, e := range all {
		entry := history.Entry{ID: 1, Event: event.Event{Subject: e.Name, Endpoint: e.ID, Addr: withoutLength(e.Address)}}
		if (history.Filter{Endpoint: word}).Match(entry) {
			out = append(out, e)
		}
	}
	return out
}

// noteGone says of what should go on, and is not there, that its end is not known: an
// event was lost.
func noteGone(all []api.EndpointSpan, now []api.Endpoint) {
	there := map[string]bool{}
	for _, e := range now {
		there[e.ID] = true
	}
	for i, s := range all {
		if s.To.IsZero() && !there[s.ID] {
			all[i].Why = "it is gone, and nobody wrote down when"
		}
	}
}

// Covers reports whether a span has a moment in it. Its end belongs to the next one.
func Covers(s api.EndpointSpan, at time.Time) bool {
	return !at.Before(s.From) && (s.To.IsZero() || at.Before(s.To))
}

// key tells what a span is of.
type key struct{ host, id, addr string }

// place is what only one endpoint has at a time.
type place struct{ network, addr string }

// spans are made of events, in order of time.
type spans struct {
	all  []*api.EndpointSpan
	of   map[key]*api.EndpointSpan   // the last of each
	open map[place]*api.EndpointSpan // who has an address
}

// Spans makes times of what was attached and detached, and of what is there now. An
// attachment whose end nobody wrote down ends when another host attaches the address:
// clocks differ, so a detachment that comes after that changes nothing.
func Spans(events []api.Event, current []api.Endpoint) []api.EndpointSpan {
	s := spans{of: map[key]*api.EndpointSpan{}, open: map[place]*api.EndpointSpan{}}
	for _, e := range events {
		switch event.Kind(e.Kind) {
		case event.EndpointAttached:
			s.attached(e)
		case event.EndpointDetached:
			s.detached(e)
		}
	}
	for _, e := range current {
		s.there(e)
	}
	out := make([]api.EndpointSpan, len(s.all))
	for i, one := range s.all {
		out[i] = *one
	}
	slices.SortStableFunc(out, func(a, b api.EndpointSpan) int { return a.From.Compare(b.From) })
	return out
}

func (s *spans) add(e api.EndpointSpan) *api.EndpointSpan {
	s.all = append(s.all, &e)
	s.of[key{e.Host, e.ID, e.Address}] = &e
	return &e
}

func (s *spans) attached(e api.Event) {
	k, at := key{e.Host, e.Endpoint, e.Addr}, place{e.Network, e.Addr}
	if last := s.of[k]; last != nil && last.To.IsZero() {
		last.Name = cmp.Or(e.Subject, last.Name) // a runtime said the name later
		return
	}
	if before := s.open[at]; before != nil && before.To.IsZero() {
		before.To, before.EndedBy, before.Why = e.At, e.Host, "its address was attached on "+e.Host
	}
	s.open[at] = s.add(api.EndpointSpan{Name: e.Subject, ID: e.Endpoint, Network: e.Network, Address: e.Addr, Host: e.Host, From: e.At, By: e.By})
}

func (s *spans) detached(e api.Event) {
	last := s.of[key{e.Host, e.Endpoint, e.Addr}]
	if last == nil { // it began before what is written down
		last = s.add(api.EndpointSpan{Name: e.Subject, ID: e.Endpoint, Network: e.Network, Address: e.Addr, Host: e.Host})
	}
	if last.To.IsZero() {
		last.To, last.EndedBy, last.Why = e.At, e.By, e.Text
	}
	last.Name = cmp.Or(last.Name, e.Subject)
}

// there notes an endpoint of now, whose begin may be older than what is written down.
func (s *spans) there(e api.Endpoint) {
	addr := withoutLength(e.Address)
	if last := s.of[key{e.Host, e.ID, addr}]; last != nil && last.To.IsZero() {
		last.Name = cmp.Or(last.Name, e.Name)
		return
	}
	s.add(api.EndpointSpan{Name: e.Name, ID: e.ID, Network: e.Network, Address: addr, Host: e.Host})
}

func withoutLength(prefix string) string {
	addr, _, _ := strings.Cut(prefix, "/")
	return addr
}
