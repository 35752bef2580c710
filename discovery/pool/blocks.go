package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// BlockRecords are what the store knows of addresses: the claimed blocks of each
// network, and the addresses that are reserved one by one. It is what ipam needs
// of a pool.
type BlockRecords struct {
	store   *store
	cluster *ClusterRecords
}

// ReleaseBlock gives a block back. It is nil when the host does not hold it
// any more.
func (r *BlockRecords) ReleaseBlock(ctx context.Context, b discovery.Block) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		out, err := r.store.commit(ctx, drop(blockKey(b.Network, b.Prefix), b.Index))
		if err != nil {
			return fmt.Errorf("release block %s: %w", b.Prefix, err)
		}
		if out.ok() {
			return nil
		}
		now, held, err := r.block(ctx, b.Network, b.Prefix)
		if _, refused := errors.AsType[strict.Refused](err); refused {
			return nil // it is no claim, and nobody's
		}
		if err != nil {
			return fmt.Errorf("release block %s: %w", b.Prefix, err)
		}
		if !held || now.Host != b.Host {
			return nil
		}
		b.Index = now.Index // it was asserted again since it was claimed
	}
}

// Blocks lists the claimed blocks of one network, of which the id suffices when its
// subnets are not known any more.
func (r *BlockRecords) Blocks(ctx context.Context, n discovery.Network) ([]discovery.Block, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	out, err := r.blocks(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	return out, nil
}

// BlockAt is the claimed block that covers a; not held: nobody claimed it.
func (r *BlockRecords) BlockAt(ctx context.Context, n discovery.Network, a netip.Addr) (b discovery.Block, held bool, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	s, ok := n.Covering(a)
	if !ok {
		return b, false, fmt.Errorf("address %s is not in network %s: %w", a, n.Name, ErrInvalid)
	}
	b, held, err = r.block(ctx, n.ID, s.BlockOf(a))
	if err != nil {
		return b, false, fmt.Errorf("read block of %s: %w", a, err)
	}
	return b, held, nil
}

func (r *BlockRecords) block(ctx context.Context, id discovery.NetworkID, b netip.Prefix) (discovery.Block, bool, error) {
	kv, err := r.store.lookup(ctx, blockKey(id, b))
	if err != nil || kv == nil {
		return discovery.Block{Network: id, Prefix: b}, false, err
	}
	out, err := readOne(r.store, kv, parseBlock)
	return out, err == nil, err
}

func (r *BlockRecords) blocks(ctx context.Context, n discovery.Network) ([]discovery.Block, error) {
	pairs, err := r.store.list(ctx, blocksOf(n.ID))
	if err != nil {
		return nil, err
	}
	return readAll(r.store, blocksOf(n.ID), pairs, blockOf(n)), nil
}
