package table

import (
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	gapWait      = 50 * time.Millisecond // for a reordered delta to arrive
	goneInterval = time.Second           // between two answers to a forgotten host
)

// Receive handles one message. A call or reply is returned, for the caller to
// handle; for all else the result is nil. The error wraps discovery.ErrMalformed,
// also for kinds of newer formats. The result shares memory with b.
func (x *Exchange) Receive(now time.Time, b []byte) (*Call, error) {
	m, err := parseMessage(b)
	if err != nil {
		x.stats.Malformed++
		return nil, err
	}
	if x.Silent() || x.refuse(now, m) {
		return nil, nil
	}
	switch m := m.(type) {
	case delta:
		x.receiveDelta(now, m)
	case announce:
		if x.t.owners.lookup(m.Owner) != x.t.own {
			x.pulls.want(now, m.Owner, m.At, discovery.HostID{})
		}
	case seen:
		x.shown(x.t.owners.byShort[m.From], m.At)
	case digest:
		x.digests.receive(now, m)
	case pull:
		x.receivePull(m)
	case state:
		x.receiveState(now, m)
	case gone:
		// Whoever has the key can say it. Whether it is so the pool knows.
		if m.ID == x.t.own.id {
			x.goneSaid = m.By
		}
	case Call:
		return &m, nil
	}
	return nil, nil
}

// refuse answers a message of a forgotten host, and reports whether it is one.
func (x *Exchange) refuse(now time.Time, m message) bool {
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
		x.send(id, true, gone{ID: id, By: x.t.own.header.Name})
	}
}

func sender(m message) short {
	switch m := m.(type) {
	case delta:
		return m.Owner
	case announce:
		return m.Owner
	case seen:
		return m.From
	case digest:
		return shortOf(m.From)
	case pull:
		return shortOf(m.From)
	case state:
		return shortOf(m.From)
	case Call:
		return shortOf(m.From)
	}
	return short{}
}

func (x *Exchange) receiveDelta(now time.Time, d delta) {
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
		x.send(o.id, false, seen{From: shortOf(x.t.own.id), At: o.at})
	}
}

// receivePull answers with the states that the member lacks.
func (x *Exchange) receivePull(p pull) {
	var secs []section
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
func (x *Exchange) sendSections(to discovery.HostID, secs []section) {
	for len(secs) > 0 {
		n, size := 1, opsSize(secs[0].Ops)
		for n < len(secs) && size+opsSize(secs[n].Ops)+64 < maxState*3/4 {
			size += opsSize(secs[n].Ops) + 64
			n++
		}
		x.send(to, true, state{From: x.t.own.id, Complete: x.t.complete, Sections: secs[:n]})
		secs = secs[n:]
	}
}

func (x *Exchange) receiveState(now time.Time, s state) {
	for _, sec := range s.Sections {
		switch x.t.applySection(sec) {
		case gap:
			x.pulls.wantWhole(now, shortOf(sec.Owner), sec.At)
			continue
		case ignored:
			if sec.Parts > 1 {
				continue
			}
		case applied:
			x.digests.repaired()
		}
		x.pulls.fulfil(shortOf(sec.Owner), sec.At)
		if o := x.t.owners.byID[sec.Owner]; o != nil {
			x.confirms.confirmFrom(now, o, s.From, s.Complete)
			if s.From == sec.Owner {
				x.waiting[o.id] = struct{}{}
			}
			x.answerSeen(o)
		}
	}
}
