package networks

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
)

// records are a pool that can be away.
type records struct {
	Holders

	mu    sync.Mutex
	away  bool
	reads int
	block discovery.HostID // holder of 10.70.0.0/28
	addr  discovery.HostID // zero, or who reserved 10.70.0.5
}

func (r *records) Blocks(_ context.Context, n discovery.Network) ([]discovery.Block, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.away {
		return nil, errors.New("away")
	}
	return []discovery.Block{{Network: n.ID, Prefix: netip.MustParsePrefix("10.70.0.0/28"), Host: r.block}}, nil
}

func (r *records) Reserved(context.Context, discovery.NetworkID, netip.Prefix) (map[netip.Addr]discovery.Reservation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.addr.IsZero() {
		return nil, nil
	}
	return map[netip.Addr]discovery.Reservation{netip.MustParseAddr("10.70.0.5"): {Host: r.addr}}, nil
}

func (r *records) set(change func(*records)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// court is a Disputes of host 1 with what it last told.
type court struct {
	*Disputes
	pool  *records
	saved []byte

	mu   sync.Mutex
	told func(discovery.NetworkID, netip.Addr) (discovery.HostID, bool)
}

var blue = discovery.Network{ID: discovery.NetworkID{7}, Name: "blue", Subnets: []discovery.Subnet{{
	CIDR: netip.MustParsePrefix("10.70.0.0/24"), Gateway: netip.MustParseAddr("10.70.0.1"), Bits: 4}}}

func newCourt(saved []byte) *court {
	c := &court{pool: &records{}}
	c.Disputes = &Disputes{Pool: c.pool, Self: discovery.HostID{1}, Log: slog.New(slog.DiscardHandler),
		Nets: func(id discovery.NetworkID) (discovery.Network, bool) { return blue, id == blue.ID },
		Own:  func(discovery.NetworkID, netip.Addr) bool { return false },
		Tell: func(h func(discovery.NetworkID, netip.Addr) (discovery.HostID, bool)) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told = h
		},
		Save: func(b []byte) error { c.saved = b; return nil }}
	c.Open(saved)
	return c
}

// holder is who was told to hold 10.70.0.5; false: nobody was named.
func (c *court) holder() (discovery.HostID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told(blue.ID, netip.MustParseAddr("10.70.0.5"))
}

func disputed(ids ...byte) discovery.View {
	var v discovery.View
	for _, id := range ids {
		v.Endpoints = append(v.Endpoints, discovery.Record{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{id}, Network: blue.ID}, Conflicted: true})
	}
	return v
}

func TestThePoolDecidesWhoHoldsADisputedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourt(nil)
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- c.Run(ctx) }()
		defer func() { cancel(); <-done }()
		want := func(what string, host discovery.HostID, known bool) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if got, ok := c.holder(); ok != known || ok && got != host {
				t.Errorf("%s: held by %s, %t; want %s, %t", what, got, ok, host, known)
			}
		}
		c.pool.set(func(r *records) { r.block = discovery.HostID{2} })
		want("nothing is disputed", discovery.HostID{}, false)
		if c.pool.reads > 0 {
			t.Errorf("the pool was read %d times for nothing", c.pool.reads)
		}
		c.Note(disputed(9))
		want("it lies in a block", discovery.HostID{2}, true)
		c.pool.set(func(r *records) { r.addr = discovery.HostID{3} })
		c.Note(disputed(9, 10))
		want("it is reserved out of the block", discovery.HostID{3}, true)
		c.pool.set(func(r *records) { r.away = true })
		c.Note(disputed(9))
		want("the pool is away", discovery.HostID{3}, true)
		next := newCourt(c.saved)
		if got, ok := next.holder(); got != (discovery.HostID{3}) || !ok {
			t.Errorf("after a restart with the pool away: %s, %t", got, ok)
		}
		c.pool.set(func(r *records) { r.away, r.addr = false, discovery.HostID{} })
		want("the reservation ended", discovery.HostID{2}, true)
		c.Note(disputed())
		want("nothing is disputed any more", discovery.HostID{}, false)
		before := c.pool.reads
		time.Sleep(time.Hour)
		if c.pool.reads != before {
			t.Errorf("the pool was read %d times for nothing", c.pool.reads-before)
		}
		for i := range 10_000 { // a member disputes others all the time
			c.Note(disputed(byte(i)))
			time.Sleep(6 * time.Millisecond)
		}
		if n := c.pool.reads - before; n > 30 {
			t.Errorf("the pool was read %d times in a minute of disputes", n)
		}
	})
}

// Before the pool was asked, or while it is away, an address in an own block is this
// host's.
func TestOwnBlocksCountWhereThePoolWasNotAsked(t *testing.T) {
	c := newCourt(nil)
	c.Own = func(n discovery.NetworkID, a netip.Addr) bool { return n == blue.ID }
	if got, ok := c.holder(); got != c.Self || !ok {
		t.Errorf("held by %s, %t, want this host", got, ok)
	}
}
