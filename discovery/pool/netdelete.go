package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/discovery"
)

// ending is what the first step of a deletion changes of a network.
type ending struct {
	State     discovery.NetworkState `json:"state"`
	Force     bool                   `json:"force,omitempty"`
	DeletedBy string                 `json:"deleted_by"`
}

// DeleteNetwork is the first step of two: from now on nobody attaches to the
// network or claims of it, and every host gives its blocks back. It can be
// repeated. With force every host detaches its endpoints as well.
// ErrNotFound: there is no network of that name.
func (r *NetworkRecords) DeleteNetwork(ctx context.Context, name, by string, force bool) (discovery.Network, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		n, done, err := r.beginDelete(ctx, name, by, force)
		if err != nil {
			return discovery.Network{}, err
		}
		if done {
			n.State, n.Force = discovery.NetworkDeleting, n.Force || force
			return n.Network, nil
		}
		if err := afterLostRace(ctx); err != nil {
			return discovery.Network{}, err
		}
	}
}

// beginDelete tries once; not done: something else changed.
func (r *NetworkRecords) beginDelete(ctx context.Context, name, by string, force bool) (netValue, bool, error) {
	g, err := r.gen(ctx)
	if err != nil {
		return netValue{}, false, err
	}
	n, kv, err := r.net(ctx, name)
	switch {
	case err != nil:
		return n, false, err
	case kv == nil:
		return n, false, ErrNotFound
	case n.State == discovery.NetworkDeleting && (n.Force || !force):
		return n, true, nil
	}
	end := ending{State: discovery.NetworkDeleting, Force: force, DeletedBy: by}
	out, err := r.store.commit(ctx, g.next(g.NextVNI), cas(netKey(name), kv.ModifyIndex, rewrite(kv.Value, end)))
	return n, out.ok(), err
}

// FinishDelete is the second step: once no host holds anything of the network,
// it goes, and netgone/ says so for ever. Not done: something is still held.
// Any host may call it, at any time after the first step; by counts only when
// the first step named nobody.
func (r *NetworkRecords) FinishDelete(ctx context.Context, n discovery.Network, by string) (done bool, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		done, again, err := r.finishDelete(ctx, n, by)
		if err != nil {
			return false, fmt.Errorf("finish deletion of network %s: %w", n.Name, err)
		}
		if !again {
			return done, nil
		}
		if err := afterLostRace(ctx); err != nil {
			return false, fmt.Errorf("finish deletion of network %s: %w", n.Name, err)
		}
	}
}

// finishDelete tries once; again: somebody else changed a network meanwhile.
func (r *NetworkRecords) finishDelete(ctx context.Context, n discovery.Network, by string) (done, again bool, err error) {
	g, err := r.gen(ctx)
	if err != nil {
		return false, false, err
	}
	now, kv, err := r.net(ctx, n.Name)
	if err != nil {
		return false, false, err
	}
	if kv == nil || now.ID != n.ID {
		gone, err := r.store.lookup(ctx, netGoneKey(n.ID))
		if err == nil && gone == nil {
			err = ErrNotFound
		}
		return err == nil, false, err
	}
	if now.State != discovery.NetworkDeleting {
		return false, false, fmt.Errorf("it is %s: %w", now.State, ErrInvalid)
	}
	if inUse, err := r.inUse(ctx, now.Network); err != nil || inUse {
		return false, false, err
	}
	if now.DeletedBy != "" {
		by = now.DeletedBy
	}
	gone := netGoneValue{Name: n.Name, VNI: now.VNI, By: by, At: time.Now().UTC()}
	out, err := r.store.commit(ctx, g.next(g.NextVNI), drop(netKey(n.Name), kv.ModifyIndex),
		del(vniKey(now.VNI)), set(netGoneKey(n.ID), encode(gone)))
	return out.ok(), !out.ok(), err
}

// AwaitFree waits until no host holds anything of a network that is being deleted:
// then FinishDelete does the last step. It returns with the error of ctx, or of the
// store, before that.
func (r *NetworkRecords) AwaitFree(ctx context.Context, n discovery.Network) error {
	for _, folder := range []string{blocksOf(n.ID), reservedOf(n.ID)} {
		for index := uint64(0); ; {
			pairs, next, _, err := r.store.blocking(ctx, folder, index)
			if err != nil {
				return fmt.Errorf("wait until network %s is free: %w", n.Name, err)
			}
			if held, _ := parseAll(pairs, parseHolder); len(held) == 0 {
				break
			}
			index = max(next, 1)
		}
	}
	return nil
}

// inUse reports whether a host holds a block or an address of the network. No
// claim comes after the answer no: each compares nets/, which said deleting
// before we looked.
func (r *NetworkRecords) inUse(ctx context.Context, n discovery.Network) (bool, error) {
	pairs, err := r.store.list(ctx, blocksOf(n.ID))
	if err != nil || len(readAll(r.store, blocksOf(n.ID), pairs, blockOf(n))) > 0 {
		return true, err
	}
	pairs, err = r.store.list(ctx, reservedOf(n.ID))
	return len(readAll(r.store, reservedOf(n.ID), pairs, parseReservation)) > 0, err
}

// FreeNetworkHeld gives back what one host holds of a network that is being
// deleted: a host that cannot do it itself. ErrInvalid: it is not being
// deleted.
func (r *NetworkRecords) FreeNetworkHeld(ctx context.Context, n discovery.Network, host discovery.HostID) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	err := r.freeNetworkHeld(ctx, n, host)
	if err != nil {
		return fmt.Errorf("free what host %s holds of network %s: %w", host, n.Name, err)
	}
	return nil
}

func (r *NetworkRecords) freeNetworkHeld(ctx context.Context, n discovery.Network, host discovery.HostID) error {
	now, kv, err := r.net(ctx, n.Name)
	if err != nil || kv == nil || now.ID != n.ID {
		return err // nothing is left of it
	}
	if now.State != discovery.NetworkDeleting {
		return fmt.Errorf("it is %s: %w", now.State, ErrInvalid)
	}
	for _, folder := range []string{blocksOf(n.ID), reservedOf(n.ID)} {
		if _, err := r.store.dropHeld(ctx, folder, host); err != nil {
			return err
		}
	}
	return nil
}

// GoneBy says who ended a network or removed a host, and when.
type GoneBy struct {
	Name string
	By   string
	At   time.Time
}
