package pool

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Fence removes a host for ever: its entry and name go, and its id is refused
// from now on. What it holds stays until FreeHeld, so that every member can
// drop its endpoints before an address is given away. It can be repeated.
// ErrNotFound: no host has or had the name.
func (r *ClusterRecords) Fence(ctx context.Context, name, by string) (Host, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		h, done, err := r.fence(ctx, name, by)
		if err != nil {
			return Host{}, fmt.Errorf("remove host %s: %w", name, err)
		}
		if done {
			return h, nil
		}
	}
}

// fence tries once; not done: the host changed meanwhile.
func (r *ClusterRecords) fence(ctx context.Context, name, by string) (Host, bool, error) {
	kv, err := r.store.lookup(ctx, nameKey(name))
	if err != nil {
		return Host{}, false, err
	}
	if kv == nil {
		h, err := r.fenced(ctx, name)
		return h, err == nil, err
	}
	id, err := readOne(r.store, kv, parseName)
	if err != nil {
		return Host{}, false, err
	}
	h, entry, err := r.host(ctx, id)
	if err != nil {
		return Host{}, false, err
	}
	h.Name = name
	gone := encode(goneValue{Name: name, By: by, At: time.Now().UTC()})
	steps := ops(drop(nameKey(name), kv.ModifyIndex), set(goneKey(id), gone))
	if entry != nil {
		steps = append(steps, drop(hostKey(id), entry.ModifyIndex))
	}
	out, err := r.store.commit(ctx, steps...)
	return h, out.ok(), err
}

// FenceLost removes for ever a host that the store may have lost the record of:
// a wiped store knows only those that registered again. Another host that has
// the name by now keeps it.
func (r *ClusterRecords) FenceLost(ctx context.Context, id discovery.HostID, name, by string) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		done, err := r.fenceLost(ctx, id, name, by)
		if err != nil {
			return fmt.Errorf("remove host %s: %w", name, err)
		}
		if done {
			return nil
		}
	}
}

// fenceLost tries once; not done: something changed meanwhile.
func (r *ClusterRecords) fenceLost(ctx context.Context, id discovery.HostID, name, by string) (bool, error) {
	gone, err := r.store.lookup(ctx, goneKey(id))
	if err != nil || gone != nil {
		return gone != nil, err
	}
	steps := ops(cas(goneKey(id), 0, encode(goneValue{Name: name, By: by, At: time.Now().UTC()})), del(hostKey(id)))
	kv, err := r.store.lookup(ctx, nameKey(name))
	if err != nil {
		return false, err
	}
	if kv != nil && string(kv.Value) == id.String() {
		steps = append(steps, drop(nameKey(name), kv.ModifyIndex))
	}
	out, err := r.store.commit(ctx, steps...)
	return out.ok(), err
}

// fenced finds the host of that name, or id, that was removed last.
func (r *ClusterRecords) fenced(ctx context.Context, name string) (h Host, err error) {
	pairs, err := r.store.list(ctx, folderGone)
	if err != nil {
		return h, err
	}
	var last time.Time
	for _, g := range readAll(r.store, folderGone, pairs, parseGone) {
		if (strings.EqualFold(g.Name, name) || g.id.String() == name) && (h.ID.IsZero() || g.At.After(last)) {
			h, last = Host{ID: g.id, Name: g.Name}, g.At
		}
	}
	if h.ID.IsZero() {
		return h, ErrNotFound
	}
	return h, nil
}

// FreeHeld gives back what a removed host holds, and says how much it was. It
// is ErrNotFenced before Fence: a host that may come back keeps what it has.
func (r *ClusterRecords) FreeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	kv, err := r.store.lookup(ctx, goneKey(id))
	if err == nil && kv == nil {
		err = ErrNotFenced
	}
	if err == nil {
		blocks, addrs, err = r.freeHeld(ctx, id)
	}
	if err != nil {
		return blocks, addrs, fmt.Errorf("free what host %s holds: %w", id, err)
	}
	return blocks, addrs, nil
}

func (r *ClusterRecords) freeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error) {
	if blocks, err = r.store.dropHeld(ctx, folderBlocks, id); err != nil {
		return blocks, 0, err
	}
	addrs, err = r.store.dropHeld(ctx, folderIPs, id)
	return blocks, addrs, err
}
