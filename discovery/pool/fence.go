package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
)

// Fence removes a host for ever: its entry and name go, and its id is refused
// from now on. What it holds stays until FreeHeld, so that every member can
// drop its endpoints before an address is given away. It can be repeated.
// ErrNotFound: no host has or had the name.
func (p *Pool) Fence(ctx context.Context, name, by string) (Host, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		h, done, err := p.fence(ctx, name, by)
		if err != nil {
			return Host{}, fmt.Errorf("remove host %s: %w", name, err)
		}
		if done {
			return h, nil
		}
	}
}

// fence tries once; not done: the host changed meanwhile.
func (p *Pool) fence(ctx context.Context, name, by string) (Host, bool, error) {
	kv, err := p.lookup(ctx, nameKey(name))
	if err != nil {
		return Host{}, false, err
	}
	if kv == nil {
		h, err := p.fenced(ctx, name)
		return h, err == nil, err
	}
	var id discovery.HostID
	if err := id.UnmarshalText(kv.Value); err != nil {
		return Host{}, false, fmt.Errorf("value of %s: %w", nameKey(name), err)
	}
	h, entry, err := p.host(ctx, id)
	if err != nil {
		return Host{}, false, err
	}
	h.Name = name
	gone := encode(goneValue{Name: name, By: by, At: time.Now().UTC()})
	steps := ops(drop(nameKey(name), kv.ModifyIndex), set(goneKey(id), gone))
	if entry != nil {
		steps = append(steps, drop(hostKey(id), entry.ModifyIndex))
	}
	out, err := p.commit(ctx, steps...)
	return h, out.ok(), err
}

// FenceLost removes for ever a host that the store may have lost the record of:
// a wiped store knows only those that registered again. Another host that has
// the name by now keeps it.
func (p *Pool) FenceLost(ctx context.Context, id discovery.HostID, name, by string) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		done, err := p.fenceLost(ctx, id, name, by)
		if err != nil {
			return fmt.Errorf("remove host %s: %w", name, err)
		}
		if done {
			return nil
		}
	}
}

// fenceLost tries once; not done: something changed meanwhile.
func (p *Pool) fenceLost(ctx context.Context, id discovery.HostID, name, by string) (bool, error) {
	gone, err := p.lookup(ctx, goneKey(id))
	if err != nil || gone != nil {
		return gone != nil, err
	}
	steps := ops(cas(goneKey(id), 0, encode(goneValue{Name: name, By: by, At: time.Now().UTC()})), del(hostKey(id)))
	kv, err := p.lookup(ctx, nameKey(name))
	if err != nil {
		return false, err
	}
	if kv != nil && string(kv.Value) == id.String() {
		steps = append(steps, drop(nameKey(name), kv.ModifyIndex))
	}
	out, err := p.commit(ctx, steps...)
	return out.ok(), err
}

// fenced finds the host of that name, or id, that was removed last.
func (p *Pool) fenced(ctx context.Context, name string) (h Host, err error) {
	pairs, err := p.list(ctx, folderGone)
	if err != nil {
		return h, err
	}
	last := goneValue{}
	for _, kv := range pairs {
		var v goneValue
		id, err := parseHostKey(kv.Key, folderGone)
		if err != nil {
			return h, err
		}
		if err := decode(kv, &v); err != nil {
			return h, err
		}
		if (v.Name == name || id.String() == name) && (h.ID.IsZero() || v.At.After(last.At)) {
			h, last = Host{ID: id, Name: v.Name}, v
		}
	}
	if h.ID.IsZero() {
		return h, ErrNotFound
	}
	return h, nil
}

// FreeHeld gives back what a removed host holds, and says how much it was. It
// is ErrNotFenced before Fence: a host that may come back keeps what it has.
func (p *Pool) FreeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	kv, err := p.lookup(ctx, goneKey(id))
	if err == nil && kv == nil {
		err = ErrNotFenced
	}
	if err == nil {
		blocks, addrs, err = p.freeHeld(ctx, id)
	}
	if err != nil {
		return blocks, addrs, fmt.Errorf("free what host %s holds: %w", id, err)
	}
	return blocks, addrs, nil
}

func (p *Pool) freeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error) {
	if blocks, err = p.free(ctx, folderBlocks, id); err != nil {
		return blocks, 0, err
	}
	addrs, err = p.free(ctx, folderIPs, id)
	return blocks, addrs, err
}

// free deletes the keys of a folder that name the host as holder, and nothing
// that changed hands since it was listed.
func (p *Pool) free(ctx context.Context, folder string, id discovery.HostID) (n int, err error) {
	for {
		held, err := p.heldBy(ctx, folder, id)
		if err != nil || len(held) == 0 {
			return n, err
		}
		for len(held) > 0 {
			chunk := held[:min(len(held), maxOps-1)]
			held = held[len(chunk):]
			out, err := p.commit(ctx, chunk...)
			if err != nil {
				return n, err
			}
			if out.ok() {
				n += len(chunk)
			}
		}
	}
}

// heldBy are the deletions of what the host holds below the folder.
func (p *Pool) heldBy(ctx context.Context, folder string, id discovery.HostID) ([]*api.KVTxnOp, error) {
	pairs, err := p.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	var out []*api.KVTxnOp
	for _, kv := range pairs {
		var v struct {
			Host discovery.HostID `json:"host"`
		}
		if err := decode(kv, &v); err != nil {
			p.log.Warn("unreadable key of the store", "key", kv.Key, "err", err)
			continue // never freed by guess
		}
		if v.Host == id {
			out = append(out, drop(kv.Key, kv.ModifyIndex))
		}
	}
	return out, nil
}
