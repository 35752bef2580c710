package ipam

import (
	"context"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// benchManager is one host whose disk syncs or does not. The network is one
// block of 256 addresses, so that the pool is asked once.
func benchManager(b *testing.B, opt bbolt.Options) (*Manager, discovery.Network) {
	b.Helper()
	db, err := bbolt.Open(b.TempDir()+"/leases.db", 0o600, &opt)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	w := newWorld(b, b.TempDir())
	m, err := New(Config{Self: hostID(1), Disk: NewDisk(&boltfile.DB{DB: db}), Pool: w.pool, View: func() discovery.View { return discovery.View{} }})
	if err != nil {
		b.Fatal(err)
	}
	n := blue(b, "198.18.0.0/16")
	n.Subnets[0].Bits = 8
	if _, err := m.Lease(b.Context(), n, owner(1<<30), none); err != nil {
		b.Fatal(err)
	}
	return m, n
}

func leaseAndFree(ctx context.Context, b *testing.B, m *Manager, n discovery.Network, id discovery.EndpointID) {
	l, err := m.Lease(ctx, n, id, none)
	if err != nil {
		b.Error(err)
		return
	}
	if err := m.Free(ctx, n.ID, id); err != nil {
		b.Error(err)
	}
	// As if it had rested: the benchmark does not measure waiting.
	nw := m.nets.all[n.ID]
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if blk := nw.blockOf(l.Addr.Addr()); blk.takeThis(l.Addr.Addr()) {
		blk.undo(l.Addr.Addr(), blk.empty)
	}
}

// BenchmarkLease is a Lease and a Free, so two commits.
func BenchmarkLease(b *testing.B) {
	for name, opt := range map[string]bbolt.Options{
		"sync":              {},
		"sync, no freelist": {NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
		"no sync":           {NoSync: true},
	} {
		b.Run(name, func(b *testing.B) {
			m, n := benchManager(b, opt)
			for i := 0; b.Loop(); i++ {
				leaseAndFree(b.Context(), b, m, n, owner(i))
			}
		})
		b.Run(name+", 100 at once", func(b *testing.B) {
			m, n := benchManager(b, opt)
			var next atomic.Int64
			b.SetParallelism(50)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					leaseAndFree(b.Context(), b, m, n, owner(int(next.Add(1))))
				}
			})
		})
	}
}

// BenchmarkTake is what a lease costs apart from the disk.
func BenchmarkTake(b *testing.B) {
	m, n := benchManager(b, bbolt.Options{NoSync: true})
	nw := m.nets.all[n.ID]
	h := &holding{}
	for b.Loop() {
		if ok, _ := m.lessor.take(nw, h); !ok {
			b.Fatal("full")
		}
		nw.mu.Lock()
		delete(nw.held, h.addr)
		nw.blocks[0].undo(h.addr, nw.blocks[0].empty)
		nw.mu.Unlock()
	}
}
