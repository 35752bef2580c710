package networks

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// silentStore has nothing to say.
type silentStore struct{ Store }

func (silentStore) Healthy() error { return nil }

// takesBack is a store that is written back.
type takesBack struct{ err error }

func (s *takesBack) Reassert(context.Context, pool.Meta, pool.Host, []discovery.Network, []discovery.Block) error {
	return s.err
}

func (s *takesBack) ReassertAddrs(context.Context, pool.Host, []discovery.Network, []discovery.ReservedAddr) error {
	return nil
}

func registry() *Registry {
	return New(Config{Store: silentStore{}, Save: func([]byte) error { return nil }, Changed: func() {}, Log: slog.New(slog.DiscardHandler)})
}

func network(name string, id byte, vni uint32, cidr string) discovery.Network {
	p := netip.MustParsePrefix(cidr)
	return discovery.Network{ID: discovery.NetworkID{id}, Name: name, VNI: vni, State: discovery.NetworkUp, Driver: "weft",
		Subnets: []discovery.Subnet{{CIDR: p, Gateway: p.Addr().Next(), Bits: 3}}}
}

// What the store lost is kept and named until it is there again, or until the store
// says that it was deleted.
func TestWhatTheStoreLostIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry()
		blue := network("blue", 1, 4096, "10.80.0.0/24")
		r.deliver(pool.Contents{Networks: []discovery.Network{blue}})
		r.deliver(pool.Contents{})
		if _, ok := r.Lookup("blue"); !ok || r.Missing() != "" || r.Lost() {
			t.Errorf("at once: %q, lost %t", r.Missing(), r.Lost())
		}
		time.Sleep(absentFor + time.Second)
		if !strings.Contains(r.Missing(), "blue") || !r.Lost() {
			t.Errorf("later: %q, lost %t", r.Missing(), r.Lost())
		}
		s := &takesBack{err: pool.ErrConflict}
		r.Reassert(t.Context(), s, pool.Meta{}, pool.Host{}, Holdings{})
		if !strings.Contains(r.Missing(), pool.ErrConflict.Error()) {
			t.Errorf("refused: %q", r.Missing())
		}
		s.err = nil
		r.Reassert(t.Context(), s, pool.Meta{}, pool.Host{}, Holdings{})
		if r.Missing() != "" || r.Lost() {
			t.Errorf("written back: %q, lost %t", r.Missing(), r.Lost())
		}
		r.deliver(pool.Contents{Networks: []discovery.Network{blue}})
		r.deliver(pool.Contents{NetGone: map[discovery.NetworkID]pool.GoneBy{blue.ID: {Name: "blue"}}})
		if _, ok := r.Lookup("blue"); ok || r.Missing() != "" {
			t.Errorf("deleted: %q", r.Missing())
		}
	})
}

// What this host carries stays as it is, whatever else comes in.
func TestCarriedNetworksStay(t *testing.T) {
	r := registry()
	r.cfg.Underlay = func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	blue := network("blue", 1, 4096, "10.80.0.0/24")
	if clashes := r.deliver(pool.Contents{Networks: []discovery.Network{blue}}); len(clashes) != 0 {
		t.Fatal(clashes)
	}
	moved := network("blue", 1, 4096, "10.99.0.0/24")
	over := network("over", 2, 4097, "192.0.2.0/25")
	evil := network("evil", 3, 4096, "10.98.0.0/24")
	evil.Created = evil.Created.AddDate(-1, 0, 0)
	clashes := r.deliver(pool.Contents{Networks: []discovery.Network{moved, over, evil}})
	got, ok := r.Lookup("blue")
	if all, _ := r.ByVNI(); len(clashes) != 3 || len(all) != 1 || !ok || got.CIDRs() != "10.80.0.0/24" {
		t.Errorf("got %v and %v, want blue as it was", all, clashes)
	}
	if r.Missing() != "" || r.Lost() {
		t.Errorf("a network that is listed is missing: %q", r.Missing())
	}
}
