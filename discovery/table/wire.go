package table

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// A field is a key, tag<<1|form, and a value: a uvarint (form 0) or bytes with
// their length before them (form 1). A reader can therefore step over a tag
// that it does not know, and keeps it.
const (
	formUint  = 0
	formBytes = 1
)

func appendUint(b []byte, tag, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, tag<<1|formUint), v)
}

func appendBytes[T ~[]byte | ~string](b []byte, tag uint64, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return appendBlob(binary.AppendUvarint(b, tag<<1|formBytes), v)
}

func appendBlob[T ~[]byte | ~string](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendAddr(b []byte, tag uint64, a netip.Addr) []byte {
	return appendBytes(b, tag, a.AsSlice())
}

func appendPrefix(b []byte, tag uint64, p netip.Prefix) []byte {
	if !p.IsValid() {
		return b
	}
	return appendBytes(b, tag, append([]byte{byte(p.Bits())}, p.Addr().AsSlice()...))
}

func appendAddrPort(b []byte, tag uint64, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	return appendBytes(b, tag, binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port()))
}

// reader takes values from the front of a message. After the first failure it
// returns zero values, so a decoder checks err once at its end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", what, discovery.ErrMalformed)
	}
	r.b = nil
}

func (r *reader) uint(what string) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take returns the next n bytes, as a part of the message.
func (r *reader) take(n uint64, what string) []byte {
	if n > uint64(len(r.b)) {
		r.fail(what)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) blob(what string) []byte { return r.take(r.uint(what), what) }

func (r *reader) byte(what string) byte {
	if v := r.take(1, what); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) fixed64(what string) uint64 {
	if v := r.take(8, what); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) fixed32(what string) uint32 {
	if v := r.take(4, what); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) hostID(what string) (h discovery.HostID) {
	copy(h[:], r.take(16, what))
	return h
}

func (r *reader) short(what string) (s short) {
	copy(s[:], r.take(8, what))
	return s
}

func (r *reader) version(what string) Version {
	return Version{Inc: r.uint(what), Ver: r.uint(what)}
}

// field is one decoded field; raw is the whole of it with its key.
type field struct {
	tag   uint64
	num   uint64
	bytes []byte
	raw   []byte
}

// fields walks over every field of b; visit reports whether it knows the tag
// (of that form). Unknown fields are returned as they came.
func fields(b []byte, what string, visit func(f field) (known bool, err error)) (unknown []byte, err error) {
	r := reader{b: b}
	for len(r.b) > 0 && r.err == nil {
		start := r.b
		key := r.uint(what)
		f := field{tag: key >> 1}
		if key&1 == formBytes {
			f.bytes = r.blob(what)
			if f.bytes == nil && r.err == nil {
				f.bytes = []byte{}
			}
		} else {
			f.num = r.uint(what)
		}
		if r.err != nil {
			break
		}
		f.raw = start[:len(start)-len(r.b)]
		known, err := visit(f)
		if err != nil {
			return nil, fmt.Errorf("%s: field %d: %w", what, f.tag, err)
		}
		if !known {
			unknown = append(unknown, f.raw...)
		}
	}
	return unknown, r.err
}

// isBytes reports whether the field came in the form of bytes. A known tag in
// the other form is malformed, not unknown.
func (f field) isBytes() bool { return f.bytes != nil }

func (f field) addr() (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(f.bytes)
	if !ok {
		return a, fmt.Errorf("address of %d bytes: %w", len(f.bytes), discovery.ErrMalformed)
	}
	return a, nil
}

func (f field) prefix() (netip.Prefix, error) {
	if len(f.bytes) < 1 {
		return netip.Prefix{}, fmt.Errorf("empty prefix: %w", discovery.ErrMalformed)
	}
	a, ok := netip.AddrFromSlice(f.bytes[1:])
	p := netip.PrefixFrom(a, int(f.bytes[0]))
	if !ok || !p.IsValid() {
		return p, fmt.Errorf("prefix of %d bytes: %w", len(f.bytes), discovery.ErrMalformed)
	}
	return p, nil
}

func (f field) addrPort() (netip.AddrPort, error) {
	if len(f.bytes) < 2 {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes: %w", len(f.bytes), discovery.ErrMalformed)
	}
	n := len(f.bytes) - 2
	a, ok := netip.AddrFromSlice(f.bytes[:n])
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes: %w", n, discovery.ErrMalformed)
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(f.bytes[n:])), nil
}

// into copies the field's bytes into an array of exactly that length.
func (f field) into(dst []byte) error {
	if len(f.bytes) != len(dst) {
		return fmt.Errorf("%d bytes, want %d: %w", len(f.bytes), len(dst), discovery.ErrMalformed)
	}
	copy(dst, f.bytes)
	return nil
}

// upTo returns the field's number when it is at most limit.
func (f field) upTo(limit uint64) (uint64, error) {
	if f.isBytes() || f.num > limit {
		return 0, fmt.Errorf("number above %d: %w", limit, discovery.ErrMalformed)
	}
	return f.num, nil
}
