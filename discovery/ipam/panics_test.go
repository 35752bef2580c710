package ipam

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// panickingPool is a pool whose calls panic while broken is set.
type panickingPool struct {
	Pool
	broken atomic.Bool
}

func (p *panickingPool) ClaimBlock(ctx context.Context, n discovery.Network, host discovery.HostID, nonce uint64, v6 bool, taken func(netip.Prefix) bool) (discovery.Block, error) {
	if p.broken.Load() {
		var none *discovery.Block
		return *none, nil
	}
	return p.Pool.ClaimBlock(ctx, n, host, nonce, v6, taken)
}

// A panic ends the request that met it, and those that shared its claim; the next
// one finds nothing held.
func TestAPanicWedgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir())
		defer w.close()
		h := w.add()
		p := &panickingPool{Pool: w.pool}
		p.broken.Store(true)
		h.m.cfg.Pool = caughtPool{p, h.m.cfg.Log}
		n := blue(t, "192.0.2.0/24")
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				_, err := h.m.Lease(t.Context(), n, owner(i), netip.Addr{})
				if err == nil || !strings.Contains(err.Error(), "internal error") {
					t.Errorf("got %v, want the panic as an error", err)
				}
			})
		}
		wg.Wait()
		p.broken.Store(false)
		for i := range 5 {
			if _, err := h.m.Lease(t.Context(), n, owner(i), netip.Addr{}); err != nil {
				t.Errorf("after it: %v", err)
			}
		}
		if err := h.m.Drop(n.ID); err != nil { // waits for every user of the network
			t.Error(err)
		}
	})
}

// A panic of the file's library is a failed write to all who share it, and the next
// write is one of its own.
func TestAPanicInAWriteIsNoSuccess(t *testing.T) {
	db, err := bbolt.Open(t.TempDir()+"/x.db", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	d := NewDisk(&boltfile.DB{DB: db})
	if err := d.Commit(func(*bbolt.Tx) error { panic("page 7: invalid freelist") }); !errors.Is(err, errAborted) {
		t.Errorf("got %v, want %v", err, errAborted)
	}
	if err := d.Commit(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Errorf("after it: %v", err)
	}
}
