package table

import (
	"encoding/binary"
	"fmt"

	"github.com/weft-net/weft/discovery"
)

// FormatMin and FormatMax bound the wire formats that this code speaks; a
// Header and the member's metadata carry them.
const (
	FormatMin = 1
	FormatMax = 1
)

// maxDatagram is the largest delta in bytes. Label, checksum, encryption, UDP
// and IPv6 add 101, so the packet crosses links that are themselves tunnels.
const maxDatagram = 1200

// maxState is the largest state in bytes.
const maxState = 256 << 10

// Kind is the first byte of a message. Numbers are never used again.
type Kind byte

const (
	KindDelta Kind = iota + 1
	KindAnnounce
	KindDigest
	KindPull
	KindState
	KindSeen
	KindGone
	KindCall
	KindReply
)

var kindText = [...]string{"none", "delta", "announce", "digest", "pull", "state", "seen", "gone", "call", "reply"}

func (k Kind) String() string {
	if int(k) < len(kindText) {
		return kindText[k]
	}
	return fmt.Sprintf("kind(%d)", byte(k))
}

// message is one of delta, announce, digest, pull, state, seen, gone and Call.
type message interface {
	// Append writes the message, with its kind first.
	Append([]byte) []byte
}

// opKind says what an op does.
type opKind byte

const (
	opUpsert opKind = iota + 1
	opDelete
	opHeader
)

// op is one change of an owner's state. Raw is what the owner wrote: replicas
// hand it on as it came, with the fields they do not know.
type op struct {
	Kind opKind
	ID   discovery.EndpointID // of an upsert or delete
	Ver  uint64               // the owner's version that contains it
	Raw  []byte               // encoded endpoint or header
}

// append writes the op with its length, the version as distance from base.
func (o op) append(b []byte, base uint64) []byte {
	body := make([]byte, 0, 64)
	body = append(body, byte(o.Kind))
	body = binary.AppendUvarint(body, o.Ver-base)
	if o.Kind != opHeader {
		body = append(body, o.ID[:]...)
	}
	return appendBlob(b, append(body, o.Raw...))
}

func (r *reader) ops(base uint64) (ops []op) {
	for len(r.b) > 0 && r.err == nil {
		body := reader{b: r.blob("op")}
		o := op{Kind: opKind(body.byte("op kind")), Ver: base + body.uint("op version")}
		switch o.Kind {
		case opUpsert, opDelete:
			copy(o.ID[:], body.take(8, "op endpoint"))
		case opHeader:
		default:
			continue // of a newer format: its length leads past it
		}
		if body.err != nil && r.err == nil {
			r.err = body.err
		}
		o.Raw = body.b
		ops = append(ops, o)
	}
	return ops
}

// delta carries an owner from one version to another. Only the owner sends it.
type delta struct {
	Owner    short
	Inc      uint64
	From, To uint64
	Confirm  bool // the receiver answers with seen
	Ops      []op
}

const confirmBit = 0x80

// Append implements message.
func (d delta) Append(b []byte) []byte {
	kind := byte(KindDelta)
	if d.Confirm {
		kind |= confirmBit
	}
	b = append(append(b, kind), d.Owner[:]...)
	b = binary.AppendUvarint(b, d.Inc)
	b = binary.AppendUvarint(b, d.From)
	b = binary.AppendUvarint(b, d.To-d.From)
	for _, o := range d.Ops {
		b = o.append(b, d.From)
	}
	return b
}

func parseDelta(r *reader, confirm bool) delta {
	d := delta{Owner: r.short("owner"), Inc: r.uint("inc"), From: r.uint("from"), Confirm: confirm}
	d.To = d.From + r.uint("to")
	d.Ops = r.ops(d.From)
	return d
}

// announce says that an owner has a newer version than a delta could carry.
type announce struct {
	Owner short
	At    Version
}

// Append implements message.
func (a announce) Append(b []byte) []byte {
	return appendVersion(append(append(b, byte(KindAnnounce)), a.Owner[:]...), a.At)
}

func appendVersion(b []byte, v Version) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, v.Inc), v.Ver)
}

// seen tells an owner the newest of its versions that the sender holds.
type seen struct {
	From short
	At   Version
}

// Append implements message.
func (s seen) Append(b []byte) []byte {
	return appendVersion(append(append(b, byte(KindSeen)), s.From[:]...), s.At)
}

// pull asks for the owners' states newer than what the sender has.
type pull struct {
	From   discovery.HostID
	Owners []pullEntry
}

// pullEntry is one owner of a pull. A zero Have asks for the whole state.
type pullEntry struct {
	Owner short
	Have  Version
}

// Append implements message.
func (p pull) Append(b []byte) []byte {
	b = append(append(b, byte(KindPull)), p.From[:]...)
	for _, e := range p.Owners {
		b = appendVersion(append(b, e.Owner[:]...), e.Have)
	}
	return b
}

func parsePull(r *reader) pull {
	p := pull{From: r.hostID("from")}
	for len(r.b) > 0 && r.err == nil {
		p.Owners = append(p.Owners, pullEntry{r.short("owner"), r.version("have")})
	}
	return p
}

// section is the state of one owner, or one part of it when it is larger than
// a state may be. From zero means the whole state, else only the changes after
// that version.
type section struct {
	Owner       discovery.HostID
	At          Version
	From        uint64
	Part, Parts uint64
	CRC         uint32 // of the owner's whole state once all parts are applied
	Ops         []op
}

func (s section) append(b []byte) []byte {
	body := append([]byte(nil), s.Owner[:]...)
	body = appendVersion(body, s.At)
	body = binary.AppendUvarint(body, s.From)
	body = binary.AppendUvarint(body, s.Part)
	body = binary.AppendUvarint(body, s.Parts)
	body = binary.BigEndian.AppendUint32(body, s.CRC)
	for _, o := range s.Ops {
		body = o.append(body, s.From)
	}
	return appendBlob(b, body)
}

func (r *reader) section() section {
	body := reader{b: r.blob("section")}
	s := section{Owner: body.hostID("owner"), At: body.version("version"), From: body.uint("from"),
		Part: body.uint("part"), Parts: body.uint("parts"), CRC: body.fixed32("crc")}
	s.Ops = body.ops(s.From)
	if r.err == nil {
		r.err = body.err
	}
	return s
}

// state answers a pull.
type state struct {
	From     discovery.HostID
	Complete bool // the sender's view is
	Sections []section
}

const completeBit = 0x80

// Append implements message.
func (s state) Append(b []byte) []byte {
	kind := byte(KindState)
	if s.Complete {
		kind |= completeBit
	}
	b = append(append(b, kind), s.From[:]...)
	for _, sec := range s.Sections {
		b = sec.append(b)
	}
	return b
}

func parseState(r *reader, complete bool) state {
	s := state{From: r.hostID("from"), Complete: complete}
	for len(r.b) > 0 && r.err == nil {
		s.Sections = append(s.Sections, r.section())
	}
	return s
}

// gone is the answer to any message of a forgotten host.
type gone struct {
	ID discovery.HostID // the host that was forgotten
	By string           // the member that says so
}

// Append implements message.
func (g gone) Append(b []byte) []byte {
	return append(append(append(b, byte(KindGone)), g.ID[:]...), g.By...)
}

// Call is a request to another member, or with Reply its answer.
type Call struct {
	From  discovery.HostID
	Seq   uint64
	Reply bool
	Body  []byte
}

// Append writes the message, with its kind first.
func (c Call) Append(b []byte) []byte {
	kind := KindCall
	if c.Reply {
		kind = KindReply
	}
	b = append(append(b, byte(kind)), c.From[:]...)
	return append(binary.AppendUvarint(b, c.Seq), c.Body...)
}

// Sender is the host that a message says it comes from, for the kinds that are sent to
// one host as an answer or a question; false for all others.
func Sender(b []byte) (from discovery.HostID, ok bool) {
	if len(b) < 1+len(from) {
		return from, false
	}
	switch Kind(b[0] &^ (confirmBit | completeBit)) {
	case KindDigest, KindPull, KindState, KindCall, KindReply:
		return discovery.HostID(b[1 : 1+len(from)]), true
	}
	return from, false
}

// parseMessage decodes a message. It fails with ErrMalformed, also for kinds of newer
// formats; the parts of the result may share memory with b.
func parseMessage(b []byte) (message, error) {
	r := &reader{b: b}
	m := parse(r)
	if r.err != nil {
		return nil, fmt.Errorf("decode message: %w", r.err)
	}
	return m, nil
}

func parse(r *reader) message {
	kind := r.byte("kind")
	switch Kind(kind) {
	case KindDelta, KindDelta | confirmBit:
		return parseDelta(r, kind&confirmBit != 0)
	case KindAnnounce:
		return announce{Owner: r.short("owner"), At: r.version("version")}
	case KindSeen:
		return seen{From: r.short("from"), At: r.version("version")}
	case KindDigest:
		return parseDigest(r)
	case KindPull:
		return parsePull(r)
	case KindState, KindState | completeBit:
		return parseState(r, kind&completeBit != 0)
	case KindGone:
		return gone{ID: r.hostID("id"), By: string(r.b)}
	case KindCall, KindReply:
		c := Call{From: r.hostID("from"), Seq: r.uint("seq"), Reply: Kind(kind) == KindReply}
		c.Body = r.b
		return c
	}
	r.fail(Kind(kind).String())
	return nil
}
