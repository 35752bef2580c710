package gossip

import (
	"encoding/binary"
	"fmt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// meta is what memberlist carries with a member's name and address, in every
// message that says it is alive: at most 21 bytes.
type meta struct {
	formatMin, formatMax uint8
	inc                  uint64
	nonce                uint64
}

func (m meta) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{m.formatMin, m.formatMax}, m.nonce)
	return binary.AppendUvarint(b, m.inc)
}

func parseMeta(b []byte) (meta, error) {
	if len(b) < 11 {
		return meta{}, fmt.Errorf("member metadata of %d bytes: %w", len(b), discovery.ErrMalformed)
	}
	m := meta{formatMin: b[0], formatMax: b[1], nonce: binary.BigEndian.Uint64(b[2:])}
	inc, n := binary.Uvarint(b[10:])
	if n <= 0 {
		return meta{}, fmt.Errorf("member incarnation: %w", discovery.ErrMalformed)
	}
	m.inc = inc
	return m, nil
}

// speaks reports whether both sides know a common format.
func (m meta) speaks() bool {
	return m.formatMin <= table.FormatMax && m.formatMax >= table.FormatMin
}
