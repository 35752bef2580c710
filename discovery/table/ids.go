package table

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/weft-net/weft/discovery"
)

// short is the first half of a host id. It names an owner inside a message,
// where sixteen bytes would be most of the payload; 64 random bits do not
// collide in clusters of any size we serve.
type short [8]byte

// shortOf returns the name of the host inside messages.
func shortOf(h discovery.HostID) short { return short(h[:8]) }

func (s short) String() string { return fmt.Sprintf("%x", s[:]) }

// HashID spreads a host id over 64 bits. Header.GoneHash is the XOR of it over
// the forgotten hosts that a member knows, so two members that know the same
// hosts show the same hash whatever the order.
func HashID(h discovery.HostID) uint64 { return hash64(h[:], 0, 0) }

// Version orders the states of one owner: first the incarnation, which grows
// with each start of its agent, then the version within it. The zero value is
// older than every state.
type Version struct {
	Inc uint64
	Ver uint64
}

// Compare returns -1, 0 or +1 as v is older than, equal to or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Inc, o.Inc), cmp.Compare(v.Ver, o.Ver))
}

// IsZero reports whether nothing is known of the owner's state.
func (v Version) IsZero() bool { return v == Version{} }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Inc, v.Ver) }

// hash64 is FNV-1a with a finisher: FNV alone leaves the last bytes in the low
// bits, and the hashes of many owners are XORed.
func hash64(id []byte, inc, ver uint64) uint64 {
	h := fnv.New64a()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], inc)
	binary.BigEndian.PutUint64(b[8:], ver)
	h.Write(id)
	h.Write(b[:])
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
