package gossip

import (
	"bytes"
	"errors"
	"testing"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// FuzzMeta: what a member says of itself to memberlist is read or malformed, and what
// is read is what would be written.
func FuzzMeta(f *testing.F) {
	f.Add(meta{table.FormatMin, table.FormatMax, 7, 9}.encode())
	f.Add([]byte("0123456789"))
	f.Add(append(make([]byte, 10), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(b)
		if err != nil {
			if !errors.Is(err, discovery.ErrMalformed) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		again, err := parseMeta(m.encode())
		if err != nil || again != m {
			t.Errorf("%x: %+v comes back as %+v, %v", b, m, again, err)
		}
		if out := m.encode(); len(out) > 20 || !bytes.HasPrefix(out, b[:2]) {
			t.Errorf("%x is written as %x", b, out)
		}
	})
}

// FuzzHostID: a member's name is its id, or it is no member.
func FuzzHostID(f *testing.F) {
	f.Add(discovery.HostID{1}.String())
	f.Add("host2")
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := hostID(name); ok && !bytes.EqualFold([]byte(id.String()), []byte(name)) {
			t.Errorf("%q is read as %s", name, id)
		}
	})
}
