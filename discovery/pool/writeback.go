package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// WriteBack puts back what the cluster's hosts know into a store that was wiped,
// or restored from an old copy.
type WriteBack struct {
	store    *store
	cluster  *ClusterRecords
	networks *NetworkRecords
	blocks   *BlockRecords
}

// Reassert puts back what this host knows after the store was wiped, or
// restored from an old copy: the cluster under its old id, the host, the
// networks that were not deleted, and the host's own blocks. It only ever adds.
// What somebody else holds by now is left alone and reported: the error then
// joins one ErrConflict for each. A *ForgottenError: this host was removed, and
// nothing of it was put back.
func (w *WriteBack) Reassert(ctx context.Context, m Meta, h Host, networks []discovery.Network, blocks []discovery.Block) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := w.reassertMeta(ctx, m); err != nil {
		return fmt.Errorf("reassert cluster: %w", err)
	}
	if err := w.cluster.Register(ctx, h); err != nil {
		return fmt.Errorf("reassert: %w", err)
	}
	gone, err := w.netGone(ctx)
	if err != nil {
		return fmt.Errorf("reassert: %w", err)
	}
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(b discovery.Block) bool { return gone[b.Network] })
	var lost []error
	for _, n := range networks {
		if gone[n.ID] {
			continue
		}
		if err := w.reassertNetwork(ctx, n); err != nil {
			lost = append(lost, fmt.Errorf("reassert network %s: %w", n.Name, err))
		}
	}
	if err := w.reassertBlocks(ctx, h, blocks); err != nil {
		lost = append(lost, err)
	}
	return errors.Join(lost...)
}

// reassertMeta makes meta with the old id if there is none.
func (w *WriteBack) reassertMeta(ctx context.Context, m Meta) error {
	w.store.expect(m.ClusterID)
	_, err := w.store.checkMeta(ctx)
	if !errors.Is(err, ErrNoCluster) {
		return err
	}
	m.Schema = schema
	if _, err := w.store.txn(ctx, ops(cas(keyMeta, 0, encode(m)))); err != nil {
		return err
	}
	_, err = w.store.checkMeta(ctx) // ours now, or another cluster's
	return err
}

// reassertNetwork puts a network back, and lifts the next VNI above its own.
func (w *WriteBack) reassertNetwork(ctx context.Context, n discovery.Network) error {
	for {
		g, err := w.networks.gen(ctx)
		if err != nil {
			return err
		}
		now, kv, err := w.networks.net(ctx, n.Name)
		if err != nil {
			return err
		}
		if kv != nil {
			return same(now.Network, n)
		}
		index, err := w.vni(ctx, n)
		if err != nil {
			return err
		}
		out, err := w.store.commit(ctx, g.next(max(g.NextVNI, n.VNI+1)), absent(netGoneKey(n.ID)),
			cas(netKey(n.Name), 0, encode(n)), cas(vniKey(n.VNI), index, []byte(n.Name)))
		if err != nil || out.ok() {
			return err
		}
		if out.failed[1] {
			return nil // deleted while we put it back
		}
		if err := afterLostRace(ctx); err != nil {
			return err
		}
	}
}

// vni is the index of the key of a network's VNI; 0: there is none. The key may have
// outlived that of the network: it is a conflict only when another network has it.
func (w *WriteBack) vni(ctx context.Context, n discovery.Network) (index uint64, err error) {
	kv, err := w.store.lookup(ctx, vniKey(n.VNI))
	if err != nil || kv == nil {
		return 0, err
	}
	if name := string(kv.Value); name != n.Name && strict.NetworkName(name) == nil {
		other, pair, err := w.networks.net(ctx, name)
		if _, refused := errors.AsType[strict.Refused](err); err != nil && !refused {
			return 0, err
		}
		if pair != nil && other.VNI == n.VNI {
			return 0, fmt.Errorf("its vni %d is that of network %s: %w", n.VNI, name, ErrConflict)
		}
	}
	return kv.ModifyIndex, nil
}

// netGone are the networks that were deleted.
func (w *WriteBack) netGone(ctx context.Context) (map[discovery.NetworkID]bool, error) {
	pairs, err := w.store.list(ctx, folderNetGone)
	out := make(map[discovery.NetworkID]bool, len(pairs))
	for _, g := range readAll(w.store, folderNetGone, pairs, parseNetGone) {
		out[g.id] = true
	}
	return out, err
}

// same is the conflict of two networks under one name.
func same(now, old discovery.Network) error {
	if now.ID == old.ID {
		return nil
	}
	return fmt.Errorf("its name is that of network %s: %w", now.ID, ErrConflict)
}

// reassertBlocks claims the blocks again, many at once while nobody objects.
func (w *WriteBack) reassertBlocks(ctx context.Context, h Host, blocks []discovery.Block) error {
	var lost []error
	for len(blocks) > 0 {
		chunk := blocks[:min(len(blocks), maxOps-1)]
		blocks = blocks[len(chunk):]
		steps := make([]*api.KVTxnOp, len(chunk))
		for i, b := range chunk {
			steps[i] = claimAgain(h, b)
		}
		out, err := w.store.commit(ctx, steps...)
		if err != nil {
			return errors.Join(append(lost, fmt.Errorf("reassert blocks: %w", err))...)
		}
		if out.ok() {
			continue
		}
		for i, b := range chunk {
			if err := w.reassertBlock(ctx, steps[i], b); err != nil {
				lost = append(lost, fmt.Errorf("reassert block %s: %w", b.Prefix, err))
			}
		}
	}
	return errors.Join(lost...)
}

// claimAgain is the operation that claims a block as it stood.
func claimAgain(h Host, b discovery.Block) *api.KVTxnOp {
	v := blockValue{Host: h.ID, Nonce: h.Nonce, State: b.State, Seq: b.Seq}
	return cas(blockKey(b.Network, b.Prefix), 0, encode(v))
}

// reassertBlock claims one block again; it is nil when it is ours already.
func (w *WriteBack) reassertBlock(ctx context.Context, step *api.KVTxnOp, b discovery.Block) error {
	out, err := w.store.commit(ctx, step)
	if err != nil || out.ok() {
		return err
	}
	now, held, err := w.blocks.block(ctx, b.Network, b.Prefix)
	if err != nil {
		return err
	}
	if !held || now.Host != b.Host {
		return fmt.Errorf("host %s has it: %w", now.Host, ErrConflict)
	}
	return nil
}

// ReassertAddrs puts back the addresses that were recorded for this host one by
// one, after Reassert has put back their networks. It only ever adds: the error
// joins one *discovery.TakenError for each that is another host's by now.
func (w *WriteBack) ReassertAddrs(ctx context.Context, h Host, networks []discovery.Network, addrs []discovery.ReservedAddr) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	var lost []error
	for _, n := range networks {
		mine := slices.DeleteFunc(slices.Clone(addrs), func(a discovery.ReservedAddr) bool { return a.Network != n.ID })
		for _, a := range mine {
			err := w.reassertAddr(ctx, h, n, a)
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDeleting) {
				break // the network was deleted: nothing of it is to come back
			}
			if err != nil {
				lost = append(lost, fmt.Errorf("reassert %s: %w", a.Addr, err))
			}
		}
	}
	return errors.Join(lost...)
}

func (w *WriteBack) reassertAddr(ctx context.Context, h Host, n discovery.Network, a discovery.ReservedAddr) error {
	for {
		guards, err := w.blocks.guards(ctx, n, h.ID)
		if err != nil {
			return err
		}
		out, err := w.store.commit(ctx, append(guards, cas(ipKey(n.ID, a.Addr), 0, encode(ipValue{Host: h.ID, Seq: a.Seq})))...)
		switch {
		case err != nil || out.ok():
			return err
		case out.failed[2]:
			_, err := w.blocks.reservedFor(ctx, n.ID, a.Addr, h.ID)
			return err
		}
	}
}
