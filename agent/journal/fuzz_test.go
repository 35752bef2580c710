package journal

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/discovery/boltfile"
)

// An entry that is taken can be planned, and is written back as it was.
func FuzzEntry(f *testing.F) {
	web := Local{Endpoint: endpoint(1, "10.64.0.2", "web"), Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.0.2/20")}}
	raw, err := json.Marshal(web)
	if err != nil {
		f.Fatal(err)
	}
	id := web.Endpoint.ID[:]
	f.Add(id, raw)
	f.Add(id, boltfile.Seal(id, raw))
	f.Add(id, []byte(`{"docker":{"endpoint_id":"x"}}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		l, err := decode(key, value)
		if err != nil {
			return
		}
		_, _ = l.Planned(), l.LockKey()
		raw, err := json.Marshal(l)
		if err != nil {
			t.Fatalf("%+v: %v", l, err)
		}
		if _, err := decode(key, boltfile.Seal(key, raw)); err != nil {
			t.Errorf("written back as %s: %v", raw, err)
		}
		if _, err := ReadBackup(value); err != nil {
			return
		}
	})
}
