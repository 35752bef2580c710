package book

import (
	"context"
	"net/netip"

	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/discovery"
)

// place is one address of one network.
type place struct {
	network discovery.NetworkID
	addr    netip.Addr
}

// keep takes the addresses that containers have by --ip. Those that none has any more,
// and no endpoint either, are freed.
func (b *Book) keep(ctx context.Context, given []docker.Given) {
	now := map[place]bool{}
	for _, g := range given {
		var id discovery.NetworkID
		if id.UnmarshalText([]byte(g.Network)) == nil {
			now[place{id, g.Addr}] = true
		}
	}
	b.mu.Lock()
	before := b.given
	b.given = now
	b.mu.Unlock()
	for p := range before {
		if now[p] {
			continue
		}
		if err := b.release(ctx, p.network, p.addr); err != nil {
			b.Log.Warn("address of a container that was removed not freed", "addr", p.addr, "err", err)
		}
	}
}

// isGiven reports whether a container, running or not, has an address by --ip.
func (b *Book) isGiven(n discovery.NetworkID, a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given[place{n, a}]
}

// unheard reports whether the engine has yet to say what its containers were given on
// a network that it has.
func (b *Book) unheard(n discovery.NetworkID) bool {
	b.mu.Lock()
	heard := b.given != nil
	b.mu.Unlock()
	return !heard && b.Serves(n)
}
