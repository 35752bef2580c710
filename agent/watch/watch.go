// Package watch says what happened between two views of the cluster: members that
// come and go, addresses that move to this host, conflicts. It is pure but for what it
// remembers of the view before.
package watch

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
)

// Watcher compares each view with the one before. It has one caller.
type Watcher struct {
	Sink    event.Sink
	Network func(discovery.NetworkID) string // the name of a network

	begun   time.Time // of the first view
	told    bool      // changes are events by now
	members map[discovery.HostID]discovery.Member
	records []discovery.Record // of the view before
	gone    map[place]holder   // addresses that another host gave up a moment ago
}

type place struct {
	network discovery.NetworkID
	addr    netip.Addr
}

// holder is the host that had an address.
type holder struct {
	host string
	at   time.Time
}

const (
	settleFor = 30 * time.Second // after a start members are found again, which is no news
	moveFor   = 10 * time.Minute // an endpoint that begins elsewhere so soon has moved
	mostGone  = 4096             // addresses that are remembered
)

// See compares a view with the one before. Until everything was read once, or half a
// minute has gone by, what changes is no news: this host only finds out what is so.
func (w *Watcher) See(v discovery.View, complete bool, now time.Time) {
	if w.begun.IsZero() {
		w.begun, w.gone = now, map[place]holder{}
	}
	news := w.told
	w.told = w.told || complete || now.Sub(w.begun) > settleFor
	w.seeMembers(v, news)
	w.seeEndpoints(v, news, now)
}

func (w *Watcher) seeMembers(v discovery.View, news bool) {
	next := make(map[discovery.HostID]discovery.Member, len(v.Members))
	for _, m := range v.Members {
		next[m.ID] = m
		before, known := w.members[m.ID]
		if m.Status == discovery.StatusSuspect && known {
			m.Status = before.Status // it is not known yet what becomes of it
			next[m.ID] = m
		}
		if kind, text := became(before, known, m); news && kind != "" && m.ID != v.Self {
			w.tellMember(kind, m, text)
		}
	}
	for id, m := range w.members {
		if _, there := next[id]; !there && news && m.Status != discovery.StatusLeft && id != v.Self {
			w.tellMember(event.MemberLeft, m, m.Name+" was taken out of the cluster")
		}
	}
	w.members = next
}

func (w *Watcher) tellMember(kind event.Kind, m discovery.Member, text string) {
	e := event.Event{Kind: kind, Subject: m.Name, Text: text, Detail: map[string]any{"id": m.ID.String(), "version": m.Version}}
	if m.Header.VTEP.IsValid() {
		e.Addr = m.Header.VTEP.String()
	}
	w.Sink.Emit(e)
}

// became says what a change of a member's status is called; "": nothing.
func became(before discovery.Member, known bool, m discovery.Member) (event.Kind, string) {
	if known && before.Status == m.Status {
		return "", ""
	}
	switch m.Status {
	case discovery.StatusLeft:
		if known {
			return event.MemberLeft, m.Name + " left the cluster"
		}
	case discovery.StatusDead:
		return event.MemberDead, m.Name + " does not answer any more: its names are hidden, its entries stay"
	case discovery.StatusAgentDown:
		return event.AgentDown, "the agent of " + m.Name + " is down: what runs there goes on"
	case discovery.StatusAlive:
		if !known || before.Status == discovery.StatusLeft {
			return event.MemberJoined, m.Name + " joined the cluster"
		}
		return event.MemberAlive, m.Name + " answers again"
	}
	return "", ""
}

// seeEndpoints walks two sorted lists. Most passes have the list of the one before.
func (w *Watcher) seeEndpoints(v discovery.View, news bool, now time.Time) {
	before, after := w.records, v.Endpoints
	w.records = after
	if len(before) == len(after) && (len(after) == 0 || &before[0] == &after[0]) {
		return
	}
	var began []*discovery.Record
	for len(before) > 0 || len(after) > 0 {
		c := -1
		switch {
		case len(before) == 0:
			c = 1
		case len(after) > 0:
			c = compare(&before[0], &after[0])
		}
		switch {
		case c < 0:
			w.ended(v, &before[0], now)
			before = before[1:]
		case c > 0:
			began = append(began, &after[0])
			after = after[1:]
		default:
			if r := &after[0]; news && r.Conflicted && !before[0].Conflicted {
				w.conflict(v, r)
			}
			before, after = before[1:], after[1:]
		}
	}
	for _, r := range began {
		if news && r.Conflicted {
			w.conflict(v, r)
		}
		w.beganAt(v, r, news, now)
	}
}

func compare(a, b *discovery.Record) int {
	return cmp.Or(bytes.Compare(a.Network[:], b.Network[:]), bytes.Compare(a.ID[:], b.ID[:]), bytes.Compare(a.Host[:], b.Host[:]))
}

// ended remembers who had the addresses of another host's endpoint that is gone.
func (w *Watcher) ended(v discovery.View, r *discovery.Record, now time.Time) {
	if r.Host == v.Self {
		return
	}
	if len(w.gone) >= mostGone {
		for p, h := range w.gone {
			if now.Sub(h.at) > moveFor || len(w.gone) >= mostGone {
				delete(w.gone, p)
			}
		}
	}
	for _, a := range r.Addrs() {
		w.gone[place{r.Network, a}] = holder{w.name(v, r.Host), now}
	}
}

// name is a host's, also when it has just left.
func (w *Watcher) name(v discovery.View, id discovery.HostID) string {
	if m, ok := w.members[id]; ok {
		return m.Name
	}
	return v.MemberName(id)
}

// beganAt says that an endpoint of this host has the address that another host had a
// moment ago, or still announces, being dead.
func (w *Watcher) beganAt(v discovery.View, r *discovery.Record, news bool, now time.Time) {
	for _, a := range r.Addrs() {
		at := place{r.Network, a}
		before, moved := w.gone[at]
		delete(w.gone, at)
		if r.Host != v.Self || r.Conflicted || !news {
			continue
		}
		if !moved {
			before, moved = w.announced(v, r, a, now)
		}
		if moved && now.Sub(before.at) <= moveFor {
			w.Sink.Emit(event.Event{Kind: event.EndpointMoved, Subject: r.Name, Network: w.Network(r.Network), Endpoint: r.ID.String(), Addr: a.String(),
				Text: fmt.Sprintf("%s moved here from %s, as %s", a, before.host, cmp.Or(r.Name, r.ID.String())), Detail: map[string]any{"from": before.host}})
		}
	}
}

// announced finds another host that still announces an address.
func (w *Watcher) announced(v discovery.View, r *discovery.Record, a netip.Addr, now time.Time) (holder, bool) {
	for i := range v.Endpoints {
		if o := &v.Endpoints[i]; o.Network == r.Network && o.Host != r.Host && (o.IPv4 == a || o.IPv6 == a) {
			return holder{w.name(v, o.Host), now}, true
		}
	}
	return holder{}, false
}

func (w *Watcher) conflict(v discovery.View, r *discovery.Record) {
	if r.Host != v.Self {
		return // its own host says so
	}
	e := event.Event{Kind: event.Conflict, Subject: r.Name, Network: w.Network(r.Network), Endpoint: r.ID.String(),
		Text:   "another host announces the address or the MAC of " + cmp.Or(r.Name, r.ID.String()) + " and has it: it is not programmed here",
		Detail: map[string]any{"mac": r.MAC.String()}}
	if all := r.Addrs(); len(all) > 0 {
		e.Addr = all[0].String()
	}
	w.Sink.Emit(e)
}
