package table

import (
	"encoding/binary"

	"github.com/weft-net/weft/discovery"
)

// ack is what every answer to a probe carries: enough to see that something
// differs, and whether it is the answering member's own part.
type ack struct {
	Root   uint64  // of the member's table
	At     Version // of its own state
	Owners uint64  // that it knows
}

// Append writes the ack, at most 24 bytes while versions stay below 2^28.
func (a ack) Append(b []byte) []byte {
	b = append(b, FormatMax)
	b = binary.BigEndian.AppendUint64(b, a.Root)
	return binary.AppendUvarint(appendVersion(b, a.At), a.Owners)
}

// parseAck decodes the payload of a probe's answer.
func parseAck(b []byte) (ack, error) {
	r := &reader{b: b}
	if f := r.byte("format"); f < FormatMin {
		r.fail("format")
	}
	a := ack{Root: r.fixed64("root"), At: r.version("version"), Owners: r.uint("owners")}
	return a, r.err
}

// digestEntry is the version of one owner that a member holds.
type digestEntry struct {
	Owner short
	At    Version
	CRC   uint32
}

// digest lists what a member holds. With Buckets it holds a hash per bucket
// instead of entries; with Scope its entries are those of some buckets only.
type digest struct {
	From     discovery.HostID
	Want     bool // the receiver answers with its own
	Complete bool // the sender's view is
	Root     uint64
	Scope    []byte   // a bit per bucket, 32 bytes; nil: all
	Buckets  []uint64 // buckets hashes, or nil
	Entries  []digestEntry
}

const (
	digestWant = 1 << iota
	digestScope
	digestBuckets
	digestComplete
)

// Append implements message.
func (d digest) Append(b []byte) []byte {
	var flags byte
	if d.Want {
		flags |= digestWant
	}
	if d.Complete {
		flags |= digestComplete
	}
	if d.Scope != nil {
		flags |= digestScope
	}
	if d.Buckets != nil {
		flags |= digestBuckets
	}
	b = append(append(b, byte(KindDigest)), d.From[:]...)
	b = binary.BigEndian.AppendUint64(append(b, flags), d.Root)
	b = append(b, d.Scope...)
	for _, h := range d.Buckets {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	for _, e := range d.Entries {
		b = appendVersion(append(b, e.Owner[:]...), e.At)
		b = binary.BigEndian.AppendUint32(b, e.CRC)
	}
	return b
}

func parseDigest(r *reader) digest {
	d := digest{From: r.hostID("from")}
	flags := r.byte("flags")
	d.Want, d.Complete = flags&digestWant != 0, flags&digestComplete != 0
	d.Root = r.fixed64("root")
	if flags&digestScope != 0 {
		d.Scope = r.take(buckets/8, "scope")
	}
	if flags&digestBuckets != 0 {
		d.Buckets = make([]uint64, buckets)
		for i := range d.Buckets {
			d.Buckets[i] = r.fixed64("bucket")
		}
	}
	for len(r.b) > 0 && r.err == nil {
		d.Entries = append(d.Entries, digestEntry{r.short("owner"), r.version("version"), r.fixed32("crc")})
	}
	return d
}

// covers reports whether the digest speaks of the owner.
func (d digest) covers(s short) bool {
	return d.Buckets == nil && (d.Scope == nil || d.Scope[s[0]/8]&(1<<(s[0]%8)) != 0)
}
