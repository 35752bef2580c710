package table

import (
	"bytes"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

// heldDeltas bounds the early deltas kept per owner until the gap closes.
const (
	heldDeltas = 32
	heldBytes  = 4096 // of one such delta: a datagram has less
)

// mostParts is how many parts of a state are waited for.
const mostParts = 1024

// owner is what the table holds of one host: its state, and what gossip says
// of it as a member.
type owner struct {
	id     discovery.HostID
	at     Version
	header discovery.Header
	raw    []byte // header as the owner wrote it
	eps    map[discovery.EndpointID]entry
	size   int // of eps, as they were written, in bytes
	crc    uint32
	early  []delta            // that came before the one they follow
	parts  map[uint64]section // of a state that is not whole yet

	gossip   netip.AddrPort
	status   discovery.MemberStatus
	rtt      time.Duration
	died     time.Time // when status became dead
	hidden   bool
	restored bool    // from the disk, gossip has not spoken of it
	pulled   bool    // confirmed since this agent started
	holds    Version // newest version of the table's own state that it has shown

	wrong   string                          // in the header; empty: nothing
	refused map[discovery.EndpointID]string // endpoints that are held and not believed
	over    time.Time                       // until then nothing more is taken: it announced too much
}

// entry is one endpoint of an owner.
type entry struct {
	discovery.Endpoint
	raw []byte // as the owner wrote it
	ver uint64 // own endpoints: the version that announced it
	// since orders the entries by when this host first heard of their addresses.
	since uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is what an entry adds to its owner's checksum. The sums are XORed, so
// the checksum does not depend on the order of the entries.
func sum(id discovery.EndpointID, raw []byte) uint32 {
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, raw)
}

// setHeader reports whether the header differs from the one before.
func (o *owner) setHeader(h discovery.Header, wrong string, raw []byte) bool {
	if o.raw != nil {
		o.crc ^= sum(discovery.EndpointID{}, o.raw)
	}
	o.crc ^= sum(discovery.EndpointID{}, raw)
	if bytes.Equal(o.raw, raw) {
		return false
	}
	o.header, o.wrong, o.raw = h, wrong, raw
	return true
}

func (o *owner) put(e entry) {
	o.eps[e.ID] = e
	o.size += len(e.raw)
	o.crc ^= sum(e.ID, e.raw)
}

func (o *owner) take(e entry) {
	delete(o.eps, e.ID)
	delete(o.refused, e.ID)
	o.size -= len(e.raw)
	o.crc ^= sum(e.ID, e.raw)
}

// refuse notes that an entry is held, so that it can be handed on and compared, and
// not believed.
func (o *owner) refuse(id discovery.EndpointID, why string) {
	if o.refused == nil {
		o.refused = map[discovery.EndpointID]string{}
	}
	o.refused[id] = why
}

func (o *owner) believes(id discovery.EndpointID) bool {
	_, refused := o.refused[id]
	return !refused
}

func (o *owner) left() bool { return o.header.Flags&discovery.FlagGone != 0 }

// hide updates whether DNS may name the owner's endpoints, and reports whether
// that changed. A dead host's packets go nowhere, so its names go too, once the
// grace it is due is over. While its kernel answers they stay: its containers run
// without the agent.
func (o *owner) hide(now time.Time, grace time.Duration) bool {
	if o.header.Flags&discovery.FlagBackSoon != 0 {
		grace = max(grace, backSoonGrace)
	}
	hidden := o.status == discovery.StatusLeft || o.status == discovery.StatusDead && !now.Before(o.died.Add(grace))
	changed := hidden != o.hidden
	o.hidden = hidden
	return changed
}

// memberStatus takes a host's own goodbye for more than gossip's opinion.
func (o *owner) memberStatus() discovery.MemberStatus {
	if down(o.status) && o.left() {
		return discovery.StatusLeft
	}
	return o.status
}

// keepEarly keeps a delta that came before the one it follows: UDP and the
// receiving queue both reorder, and a pull costs a connection.
func (o *owner) keepEarly(d delta) {
	if d.To > d.From && len(o.early) < heldDeltas && opsSize(d.Ops) <= heldBytes {
		o.early = append(o.early, d)
	}
}

// nextEarly returns the kept delta that follows the state now held, and drops
// those that the state overtook.
func (o *owner) nextEarly() (d delta, ok bool) {
	o.early = slices.DeleteFunc(o.early, func(d delta) bool {
		return d.Inc < o.at.Inc || d.Inc == o.at.Inc && d.To <= o.at.Ver
	})
	i := slices.IndexFunc(o.early, func(d delta) bool { return d.Inc == o.at.Inc && d.From <= o.at.Ver })
	if i < 0 {
		return delta{}, false
	}
	d = o.early[i]
	o.early = slices.Delete(o.early, i, i+1)
	return d, true
}

// collect returns the whole state once all its parts are there, or so many that they
// do not fit.
func (o *owner) collect(s section, fits func([]op) bool) (whole section, ok bool) {
	if s.Parts <= 1 {
		o.parts = nil
		return s, true
	}
	for _, first := range o.parts {
		if first.At != s.At || first.Parts != s.Parts {
			o.parts = nil
		}
		break
	}
	if o.parts == nil {
		o.parts = map[uint64]section{}
	}
	o.parts[s.Part] = s
	whole = s
	whole.Ops = nil
	for _, p := range o.parts {
		whole.Ops = append(whole.Ops, p.Ops...)
	}
	if uint64(len(o.parts)) < s.Parts && len(o.parts) <= mostParts && fits(whole.Ops) {
		return section{}, false
	}
	o.parts = nil
	return whole, true
}

// whole returns the owner's full state, cut into parts that fit a state.
func (o *owner) whole() []section {
	ops := []op{{Kind: opHeader, Raw: o.raw}}
	ids := slices.SortedFunc(maps.Keys(o.eps), func(a, b discovery.EndpointID) int { return bytes.Compare(a[:], b[:]) })
	var out []section
	size := len(o.raw)
	for _, id := range ids {
		raw := o.eps[id].raw
		if size += len(raw) + 16; size > maxState/2 {
			out = append(out, section{Ops: ops})
			ops, size = nil, len(raw)
		}
		ops = append(ops, op{Kind: opUpsert, ID: id, Raw: raw})
	}
	out = append(out, section{Ops: ops})
	for i := range out {
		out[i].Owner, out[i].At, out[i].CRC = o.id, o.at, o.crc
		out[i].Part, out[i].Parts = uint64(i), uint64(len(out))
	}
	return out
}

// sections returns the state of the owner newer than have; nil when there is
// nothing newer.
func (o *owner) sections(have Version) []section {
	if o.at.IsZero() || have.Compare(o.at) >= 0 {
		return nil
	}
	return o.whole()
}
