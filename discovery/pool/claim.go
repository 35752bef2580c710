package pool

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
)

// blindTries is how many places are tried before the network's blocks are
// listed. At 70 % use a free one is found in three.
const blindTries = 4

// claim is one host's wish for a block.
type claim struct {
	blocks *BlockRecords
	net    discovery.Network
	subnet discovery.Subnet
	host   discovery.HostID
	value  blockValue
	taken  func(netip.Prefix) bool
	guards []*api.KVTxnOp // host and network are as they were read
}

// ClaimBlock takes a free block of the network for a registered host. taken
// tells which blocks some owner announces, whatever the store says of them.
// discovery.ErrFull: every block is held. ErrDeleting, ErrNotFound: the network's
// end. A *ForgottenError: this host's.
func (r *BlockRecords) ClaimBlock(ctx context.Context, n discovery.Network, host discovery.HostID, nonce uint64, v6 bool, taken func(netip.Prefix) bool) (discovery.Block, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	s, ok := subnetOf(n, v6)
	if !ok {
		return discovery.Block{}, fmt.Errorf("claim block: network %s has no subnet of that family: %w", n.Name, ErrInvalid)
	}
	c := &claim{blocks: r, net: n, subnet: s, host: host, taken: taken,
		value: blockValue{Host: host, Nonce: nonce, State: discovery.BlockActive, Seq: 1, ClaimID: rand.Text()}}
	b, err := c.run(ctx)
	if err != nil {
		return discovery.Block{}, fmt.Errorf("claim block of %s (%s): %w", n.Name, s.CIDR, err)
	}
	return b, nil
}

func subnetOf(n discovery.Network, v6 bool) (discovery.Subnet, bool) {
	i := slices.IndexFunc(n.Subnets, func(s discovery.Subnet) bool { return s.CIDR.Addr().Is6() == v6 })
	if i < 0 {
		return discovery.Subnet{}, false
	}
	return n.Subnets[i], true
}

// run tries a few places blindly, from one that this host's id picks, so that
// hosts rarely meet; then those that a list shows as free.
func (c *claim) run(ctx context.Context) (discovery.Block, error) {
	if err := c.guard(ctx); err != nil {
		return discovery.Block{}, err
	}
	claimed, count := map[netip.Prefix]bool{}, c.subnet.Blocks()
	start := c.start(count)
	for i, tries := uint64(0), 0; i < count; i++ {
		b := c.subnet.Block((start + i) % count)
		if claimed[b] || !c.subnet.Claimable(b) || c.taken != nil && c.taken(b) {
			continue
		}
		got, ok, err := c.try(ctx, b)
		if err != nil || ok {
			return got, err
		}
		if tries++; tries == blindTries {
			if claimed, err = c.claimed(ctx); err != nil {
				return discovery.Block{}, err
			}
		}
	}
	return discovery.Block{}, discovery.ErrFull
}

// start is where this host begins to look.
func (c *claim) start(count uint64) uint64 {
	h := fnv.New64a()
	h.Write(c.host[:])
	h.Write(c.net.ID[:])
	return h.Sum64() % count
}

// guard reads host and network, so that no claim slips past the removal of
// either.
func (c *claim) guard(ctx context.Context) (err error) {
	c.guards, err = c.blocks.guards(ctx, c.net, c.host)
	return err
}

// guards are the checks that host and network are still there and unchanged.
func (r *BlockRecords) guards(ctx context.Context, n discovery.Network, host discovery.HostID) ([]*api.KVTxnOp, error) {
	hk, nk := hostKey(host), netKey(n.Name)
	out, err := r.store.commit(ctx, read(hk), read(nk))
	if err != nil {
		return nil, err
	}
	if out.failed[0] {
		if err := r.cluster.forgotten(ctx, host); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("host %s is not registered: %w", host, ErrNotFound)
	}
	if out.failed[1] {
		return nil, fmt.Errorf("network %s: %w", n.Name, ErrNotFound)
	}
	hkv, err := out.pair(hk)
	if err != nil {
		return nil, r.store.note(err)
	}
	nkv, err := out.pair(nk)
	if err != nil {
		return nil, r.store.note(err)
	}
	now, err := readOne(r.store, nkv, parseNet)
	switch {
	case err != nil:
		return nil, err
	case now.ID != n.ID:
		return nil, fmt.Errorf("network %s (%s): %w", n.Name, n.ID, ErrNotFound)
	case now.State != discovery.NetworkUp:
		return nil, ErrDeleting
	}
	return ops(unchanged(hk, hkv.ModifyIndex), unchanged(nk, nkv.ModifyIndex)), nil
}

// try claims one place; false: somebody else has it.
func (c *claim) try(ctx context.Context, b netip.Prefix) (discovery.Block, bool, error) {
	key := blockKey(c.net.ID, b)
	for {
		out, err := c.blocks.store.commit(ctx, append(slices.Clone(c.guards), cas(key, 0, encode(c.value)))...)
		switch {
		case err != nil:
			return discovery.Block{}, false, err
		case out.ok():
			kv, err := out.pair(key)
			if err != nil {
				return discovery.Block{}, false, err
			}
			return c.won(b, kv.ModifyIndex), true, nil
		case out.failed[2] && out.inDoubt:
			return c.mine(ctx, b)
		case out.failed[2]:
			return discovery.Block{}, false, nil
		}
		if err := c.guard(ctx); err != nil {
			return discovery.Block{}, false, err
		}
	}
}

func (c *claim) won(b netip.Prefix, index uint64) discovery.Block {
	return discovery.Block{Network: c.net.ID, Prefix: b, Host: c.host, State: c.value.State, Seq: c.value.Seq, Index: index}
}

// mine decides after a try without an answer: the claim may have been its.
func (c *claim) mine(ctx context.Context, b netip.Prefix) (discovery.Block, bool, error) {
	kv, err := c.blocks.store.lookup(ctx, blockKey(c.net.ID, b))
	if err != nil || kv == nil {
		return discovery.Block{}, false, err
	}
	var v blockValue
	return c.won(b, kv.ModifyIndex), decode(kv, &v) == nil && v == c.value, nil
}

// claimed lists the blocks of the network that are claimed.
func (c *claim) claimed(ctx context.Context) (map[netip.Prefix]bool, error) {
	blocks, err := c.blocks.blocks(ctx, c.net)
	out := make(map[netip.Prefix]bool, len(blocks))
	for _, b := range blocks {
		out[b.Prefix] = true
	}
	return out, err
}
