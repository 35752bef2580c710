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

// MaxDatagram is the largest Delta in bytes. Label, checksum, encryption, UDP
// and IPv6 add 101, so the packet crosses links that are themselves tunnels.
const MaxDatagram = 1200

// MaxState is the largest State in bytes.
const MaxState = 256 << 10

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

// Message is one of Delta, Announce, Digest, Pull, State, Seen, Gone and Call.
type Message interface {
	// Append writes the message, with its kind first.
	Append([]byte) []byte
}

// OpKind says what an Op does.
type OpKind byte

const (
	OpUpsert OpKind = iota + 1
	OpDelete
	OpHeader
)

// Op is one change of an owner's state. Raw is what the owner wrote: replicas
// hand it on as it came, with the fields they do not know.
type Op struct {
	Kind OpKind
	ID   discovery.EndpointID // of an upsert or delete
	Ver  uint64               // the owner's version that contains it
	Raw  []byte               // encoded endpoint or header
}

// append writes the op with its length, the version as distance from base.
func (o Op) append(b []byte, base uint64) []byte {
	body := make([]byte, 0, 64)
	body = append(body, byte(o.Kind))
	body = binary.AppendUvarint(body, o.Ver-base)
	if o.Kind != OpHeader {
		body = append(body, o.ID[:]...)
	}
	return appendBlob(b, append(body, o.Raw...))
}

func (r *reader) ops(base uint64) (ops []Op) {
	for len(r.b) > 0 && r.err == nil {
		body := reader{b: r.blob("op")}
		o := Op{Kind: OpKind(body.byte("op kind")), Ver: base + body.uint("op version")}
		switch o.Kind {
		case OpUpsert, OpDelete:
			copy(o.ID[:], body.take(8, "op endpoint"))
		case OpHeader:
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

// Delta carries an owner from one version to another. Only the owner sends it.
type Delta struct {
	Owner    Short
	Inc      uint64
	From, To uint64
	Confirm  bool // the receiver answers with Seen
	Ops      []Op
}

const confirmBit = 0x80

// Append implements Message.
func (d Delta) Append(b []byte) []byte {
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

func parseDelta(r *reader, confirm bool) Delta {
	d := Delta{Owner: r.short("owner"), Inc: r.uint("inc"), From: r.uint("from"), Confirm: confirm}
	d.To = d.From + r.uint("to")
	d.Ops = r.ops(d.From)
	return d
}

// Announce says that an owner has a newer version than a Delta could carry.
type Announce struct {
	Owner Short
	At    Version
}

// Append implements Message.
func (a Announce) Append(b []byte) []byte {
	return appendVersion(append(append(b, byte(KindAnnounce)), a.Owner[:]...), a.At)
}

func appendVersion(b []byte, v Version) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, v.Inc), v.Ver)
}

// Seen tells an owner the newest of its versions that the sender holds.
type Seen struct {
	From Short
	At   Version
}

// Append implements Message.
func (s Seen) Append(b []byte) []byte {
	return appendVersion(append(append(b, byte(KindSeen)), s.From[:]...), s.At)
}

// Pull asks for the owners' states newer than what the sender has.
type Pull struct {
	From   discovery.HostID
	Owners []PullEntry
}

// PullEntry is one owner of a Pull. A zero Have asks for the whole state.
type PullEntry struct {
	Owner Short
	Have  Version
}

// Append implements Message.
func (p Pull) Append(b []byte) []byte {
	b = append(append(b, byte(KindPull)), p.From[:]...)
	for _, e := range p.Owners {
		b = appendVersion(append(b, e.Owner[:]...), e.Have)
	}
	return b
}

func parsePull(r *reader) Pull {
	p := Pull{From: r.hostID("from")}
	for len(r.b) > 0 && r.err == nil {
		p.Owners = append(p.Owners, PullEntry{r.short("owner"), r.version("have")})
	}
	return p
}

// Section is the state of one owner, or one part of it when it is larger than
// a State may be. From zero means the whole state, else only the changes after
// that version.
type Section struct {
	Owner       discovery.HostID
	At          Version
	From        uint64
	Part, Parts uint64
	CRC         uint32 // of the owner's whole state once all parts are applied
	Ops         []Op
}

func (s Section) append(b []byte) []byte {
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

func (r *reader) section() Section {
	body := reader{b: r.blob("section")}
	s := Section{Owner: body.hostID("owner"), At: body.version("version"), From: body.uint("from"),
		Part: body.uint("part"), Parts: body.uint("parts"), CRC: body.fixed32("crc")}
	s.Ops = body.ops(s.From)
	if r.err == nil {
		r.err = body.err
	}
	return s
}

// State answers a Pull.
type State struct {
	From     discovery.HostID
	Complete bool // the sender's view is
	Sections []Section
}

const completeBit = 0x80

// Append implements Message.
func (s State) Append(b []byte) []byte {
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

func parseState(r *reader, complete bool) State {
	s := State{From: r.hostID("from"), Complete: complete}
	for len(r.b) > 0 && r.err == nil {
		s.Sections = append(s.Sections, r.section())
	}
	return s
}

// Gone is the answer to any message of a forgotten host.
type Gone struct {
	ID discovery.HostID // the host that was forgotten
	By string           // the member that says so
}

// Append implements Message.
func (g Gone) Append(b []byte) []byte {
	return append(append(append(b, byte(KindGone)), g.ID[:]...), g.By...)
}

// Call is a request to another member, or with Reply its answer.
type Call struct {
	From  discovery.HostID
	Seq   uint64
	Reply bool
	Body  []byte
}

// Append implements Message.
func (c Call) Append(b []byte) []byte {
	kind := KindCall
	if c.Reply {
		kind = KindReply
	}
	b = append(append(b, byte(kind)), c.From[:]...)
	return append(binary.AppendUvarint(b, c.Seq), c.Body...)
}

// Parse decodes a message. It fails with ErrMalformed, also for kinds of newer
// formats; the parts of the result may share memory with b.
func Parse(b []byte) (Message, error) {
	r := &reader{b: b}
	m := parse(r)
	if r.err != nil {
		return nil, fmt.Errorf("decode message: %w", r.err)
	}
	return m, nil
}

func parse(r *reader) Message {
	kind := r.byte("kind")
	switch Kind(kind) {
	case KindDelta, KindDelta | confirmBit:
		return parseDelta(r, kind&confirmBit != 0)
	case KindAnnounce:
		return Announce{Owner: r.short("owner"), At: r.version("version")}
	case KindSeen:
		return Seen{From: r.short("from"), At: r.version("version")}
	case KindDigest:
		return parseDigest(r)
	case KindPull:
		return parsePull(r)
	case KindState, KindState | completeBit:
		return parseState(r, kind&completeBit != 0)
	case KindGone:
		return Gone{ID: r.hostID("id"), By: string(r.b)}
	case KindCall, KindReply:
		c := Call{From: r.hostID("from"), Seq: r.uint("seq"), Reply: Kind(kind) == KindReply}
		c.Body = r.b
		return c
	}
	r.fail(Kind(kind).String())
	return nil
}
