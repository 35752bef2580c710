package table

import (
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	gapWait      = 50 * time.Millisecond // for a reordered delta to arrive
	goneInterval = time.Second           // between two answers to a forgotten host
)

// Receive handles one message. Calls and replies are the caller's; everything
// else is handled here. The error wraps discovery.ErrMalformed.
func (x *Exchange) Receive(now time.Time, b []byte) (Message, error) {
	m, err := Parse(b)
	if err != nil {
		x.stats.Malformed++
		return nil, err
	}
	if x.Silent() || x.refuse(now, m) {
		return nil, nil
	}
	switch m := m.(type) {
	case Delta:
		x.receiveDelta(now, m)
	case Announce:
		if x.t.owners.lookup(m.Owner) != x.t.own {
			x.pulls.want(now, m.Owner, m.At, discovery.HostID{})
		}
	case Seen:
		x.shown(x.t.owners.byShort[m.From], m.At)
	case Digest:
		x.digests.receive(now, m)
	case Pull:
		x.receivePull(m)
	case State:
		x.receiveState(now, m)
	case Gone:
		if m.ID == x.t.own.id {
			x.forgottenBy = m.By
			x.t.Forget([]discovery.HostID{m.ID})
		}
	}
	return m, nil
}

// refuse answers a message of a forgotten host, and reports whether it is one.
func (x *Exchange) refuse(now time.Time, m Message) bool {
	id, ok := x.t.forgotten.byShort[sender(m)]
	if ok {
		x.stats.Refused++
		x.TellGone(now, id)
	}
	return ok
}

// TellGone tells a forgotten host that it is, once a second at most.
func (x *Exchange) TellGone(now time.Time, id discovery.HostID) {
	if now.Sub(x.toldGone[id]) >= goneInterval {
		x.toldGone[id] = now
		x.send(id, true, Gone{ID: id, By: x.t.own.header.Name})
	}
}

func sender(m Message) Short {
	switch m := m.(type) {
	case Delta:
		return m.Owner
	case Announce:
		return m.Owner
	case Seen:
		return m.From
	case Digest:
		return ShortOf(m.From)
	case Pull:
		return ShortOf(m.From)
	case State:
		return ShortOf(m.From)
	case Call:
		return ShortOf(m.From)
	}
	return Short{}
}

func (x *Exchange) receiveDelta(now time.Time, d Delta) {
	if x.t.applyDelta(d) == gap {
		x.stats.Gaps++
		// The delta before it may be on its way: wait for it a moment.
		x.pulls.want(now.Add(gapWait), d.Owner, Version{d.Inc, d.To}, discovery.HostID{})
	}
	if o := x.t.owners.lookup(d.Owner); o != nil && o != x.t.own {
		if d.Confirm {
			x.waiting[o.id] = struct{}{}
		}
		if !x.pulls.wantsNewer(o) {
			x.answerSeen(o)
		}
	}
}

// answerSeen tells the owner which version of its state is held, when it
// waits for that.
func (x *Exchange) answerSeen(o *owner) {
	if _, waits := x.waiting[o.id]; waits {
		delete(x.waiting, o.id)
		x.send(o.id, false, Seen{From: ShortOf(x.t.own.id), At: o.at})
	}
}

// receivePull answers with the states that the member lacks.
func (x *Exchange) receivePull(p Pull) {
	var secs []Section
	for _, e := range p.Owners {
		o := x.t.owners.lookup(e.Owner)
		switch o {
		case nil:
		case x.t.own:
			x.shown(p.From, e.Have)
			secs = append(secs, x.t.state.sections(o, e.Have)...)
		default:
			secs = append(secs, o.sections(e.Have)...)
		}
	}
	x.sendSections(p.From, secs)
}

// sendSections packs sections into as few messages as their limit allows.
func (x *Exchange) sendSections(to discovery.HostID, secs []Section) {
	for len(secs) > 0 {
		n, size := 1, opsSize(secs[0].Ops)
		for n < len(secs) && size+opsSize(secs[n].Ops)+64 < MaxState*3/4 {
			size += opsSize(secs[n].Ops) + 64
			n++
		}
		x.send(to, true, State{From: x.t.own.id, Complete: x.t.complete, Sections: secs[:n]})
		secs = secs[n:]
	}
}

func (x *Exchange) receiveState(now time.Time, s State) {
	for _, sec := range s.Sections {
		switch x.t.applySection(sec) {
		case gap:
			x.pulls.wantWhole(now, ShortOf(sec.Owner), sec.At)
			continue
		case ignored:
			if sec.Parts > 1 {
				continue
			}
		case applied:
			x.digests.repaired()
		}
		x.pulls.fulfil(ShortOf(sec.Owner), sec.At)
		if o := x.t.owners.byID[sec.Owner]; o != nil {
			x.confirms.confirmFrom(now, o, s.From, s.Complete)
			if s.From == sec.Owner {
				x.waiting[o.id] = struct{}{}
			}
			x.answerSeen(o)
		}
	}
}
