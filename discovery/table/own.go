package table

import (
	"bytes"

	"github.com/weft-net/weft/discovery"
)

// Announce changes the own endpoints: one version for all of it, none when
// nothing differs. It reports whether it made one.
func (t *Table) Announce(up []discovery.Endpoint, del []discovery.EndpointID) bool {
	at := Version{t.own.at.Inc, t.own.at.Ver + 1}
	changed := false
	for _, id := range del {
		if _, ok := t.own.eps[id]; ok {
			t.remove(t.own, id)
			t.state.add(op{Kind: opDelete, ID: id, Ver: at.Ver})
			changed = true
		}
	}
	for _, e := range up {
		e = normalEndpoint(e)
		raw := appendEndpoint(nil, e)
		if old, ok := t.own.eps[e.ID]; ok && bytes.Equal(old.raw, raw) {
			continue
		}
		t.upsert(t.own, entry{Endpoint: e, raw: raw, ver: at.Ver})
		t.state.add(op{Kind: opUpsert, ID: e.ID, Ver: at.Ver, Raw: raw})
		changed = true
	}
	if changed {
		t.setVersion(t.own, at)
		t.state.trim()
	}
	return changed
}

// SetHeader changes the own header: one version if it differs afterwards. The
// hash of the forgotten hosts is the table's own and cannot be set. It reports
// whether it made a version.
func (t *Table) SetHeader(change func(*discovery.Header)) bool {
	h := cloneHeader(t.own.header)
	change(&h)
	h.GoneHash = t.forgotten.hash()
	h = normalHeader(h)
	raw := appendHeader(nil, h)
	if bytes.Equal(raw, t.own.raw) {
		return false
	}
	at := Version{t.own.at.Inc, t.own.at.Ver + 1}
	t.setHeader(t.own, h, raw)
	t.state.add(op{Kind: opHeader, Ver: at.Ver, Raw: raw})
	t.setVersion(t.own, at)
	t.state.trim()
	return true
}

// refute starts a new incarnation above one that another member showed: it
// was written by an earlier life of this host whose memory is lost.
func (t *Table) refute(seen Version) {
	at := Version{Inc: max(seen.Inc, t.own.at.Inc) + 1, Ver: 1}
	for id, e := range t.own.eps {
		e.ver = at.Ver
		t.own.eps[id] = e
	}
	t.state = ownState{floor: at.Ver}
	t.setVersion(t.own, at)
	t.endpointsChanged(t.own)
}

// show notes that another member holds this version of the own state. It
// reports false for a version that this agent does not remember to have
// written.
func (t *Table) show(by discovery.HostID, v Version) bool {
	if v.Compare(t.own.at) > 0 {
		return false
	}
	if o := t.owners.byID[by]; o != nil && v.Compare(o.holds) > 0 {
		o.holds = v
	}
	if v.Inc == t.own.at.Inc && v.Ver > t.state.shown {
		t.state.shown = v.Ver
		t.endpointsChanged(t.own)
	}
	return true
}
