package pool

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
)

// Host is one registered member. It has no time to live: it stays until the
// host leaves or a person removes it.
type Host struct {
	ID          discovery.HostID
	Name        string
	Nonce       uint64 // of this start of its agent
	VTEP        netip.Addr
	Gossip      netip.AddrPort
	Version     string
	Incarnation uint64
	Joined      time.Time
	Machine     string // a hint for people; never compared
}

func (h Host) value() hostValue {
	return hostValue{h.Name, h.Nonce, h.VTEP, h.Gossip, h.Version, h.Incarnation, h.Joined, h.Machine}
}

// Hosts lists the registered hosts by name.
func (r *ClusterRecords) Hosts(ctx context.Context) ([]Host, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	hosts, err := r.hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	return hosts, nil
}

func (r *ClusterRecords) hosts(ctx context.Context) ([]Host, error) {
	pairs, err := r.store.list(ctx, folderHosts)
	if err != nil {
		return nil, err
	}
	out := readAll(r.store, folderHosts, pairs, parseHost)
	slices.SortFunc(out, func(a, b Host) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
	return out, nil
}

// host reads one host and its pair; nil: it is not registered. A record that is
// refused is one of which the id alone is known: its host writes it anew.
func (r *ClusterRecords) host(ctx context.Context, id discovery.HostID) (h Host, raw *api.KVPair, err error) {
	kv, err := r.store.lookup(ctx, hostKey(id))
	if err != nil || kv == nil {
		return Host{ID: id}, nil, err
	}
	if h, err = readOne(r.store, kv, parseHost); err != nil {
		h = Host{ID: id}
	}
	return h, kv, nil
}

// registered reports whether this very start of the host's agent is in the
// store: what an unanswered try has done.
func (r *ClusterRecords) registered(ctx context.Context, h Host) bool {
	got, kv, err := r.host(ctx, h.ID)
	return err == nil && kv != nil && got.Nonce == h.Nonce
}

// Register puts the host into the store: the first time with its name, later by
// replacing its own entry, and its name if that changed. A *NameTakenError names
// the host that has the name, a *ForgottenError who removed this host, a
// *ClonedError the other instance under its id.
func (r *ClusterRecords) Register(ctx context.Context, h Host) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := checkHost(h.value()); err != nil {
		return fmt.Errorf("register host: %w", err)
	}
	for {
		done, err := r.register(ctx, h)
		if err != nil {
			return fmt.Errorf("register host %s: %w", h.Name, err)
		}
		if done {
			return nil
		}
	}
}

// register tries once, by what the store holds now; not done: that changed.
func (r *ClusterRecords) register(ctx context.Context, h Host) (done bool, err error) {
	if err := r.forgotten(ctx, h.ID); err != nil {
		return false, err
	}
	old, kv, err := r.host(ctx, h.ID)
	if err != nil {
		return false, err
	}
	if kv != nil && old.Incarnation == h.Incarnation && old.Nonce != h.Nonce {
		return false, &ClonedError{Other: old}
	}
	steps, err := r.nameSteps(ctx, h, old.Name)
	if err != nil {
		return false, err
	}
	entry := cas(hostKey(h.ID), 0, encode(h.value()))
	if kv != nil {
		entry = cas(hostKey(h.ID), kv.ModifyIndex, rewrite(kv.Value, h.value()))
	}
	out, err := r.store.commit(ctx, append(steps, absent(goneKey(h.ID)), entry)...)
	return out.ok(), err
}

// nameSteps are the operations that give the host its name.
func (r *ClusterRecords) nameSteps(ctx context.Context, h Host, before string) ([]*api.KVTxnOp, error) {
	kv, err := r.store.lookup(ctx, nameKey(h.Name))
	if err != nil {
		return nil, err
	}
	var out []*api.KVTxnOp
	switch {
	case kv == nil:
		if err := r.nameSpelled(ctx, h); err != nil {
			return nil, err
		}
		out = ops(cas(nameKey(h.Name), 0, []byte(h.ID.String())))
	case string(kv.Value) != h.ID.String():
		return nil, r.nameTaken(ctx, h.Name, kv)
	default:
		out = ops(unchanged(nameKey(h.Name), kv.ModifyIndex))
	}
	if before == "" || nameKey(before) == nameKey(h.Name) {
		return out, nil
	}
	kv, err = r.store.lookup(ctx, nameKey(before))
	if err == nil && kv != nil && string(kv.Value) == h.ID.String() {
		out = append(out, drop(nameKey(before), kv.ModifyIndex))
	}
	return out, err
}

// nameSpelled is a *NameTakenError when another host has the name in another spelling:
// the keys of an earlier release were as the names.
func (r *ClusterRecords) nameSpelled(ctx context.Context, h Host) error {
	hosts, err := r.hosts(ctx)
	if err != nil {
		return err
	}
	for _, o := range hosts {
		if o.ID != h.ID && strings.EqualFold(o.Name, h.Name) {
			return &NameTakenError{Name: h.Name, Host: o}
		}
	}
	return nil
}

// nameTaken is the error that shows the host which has a name.
func (r *ClusterRecords) nameTaken(ctx context.Context, name string, kv *api.KVPair) error {
	id, err := readOne(r.store, kv, parseName)
	if err != nil {
		return err
	}
	h, _, err := r.host(ctx, id)
	if err != nil {
		return err
	}
	return &NameTakenError{Name: name, Host: h}
}

// Removed is a *ForgottenError for a host that was removed, nil for one that was not,
// and else says why the store could not be asked.
func (r *ClusterRecords) Removed(ctx context.Context, id discovery.HostID) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := r.forgotten(ctx, id); err != nil {
		return fmt.Errorf("look for host %s among those removed: %w", id, err)
	}
	return nil
}

// forgotten is a *ForgottenError for a host that was removed.
func (r *ClusterRecords) forgotten(ctx context.Context, id discovery.HostID) error {
	kv, err := r.store.lookup(ctx, goneKey(id))
	if err != nil || kv == nil {
		return err
	}
	g, err := readOne(r.store, kv, parseGone)
	if err != nil {
		return err
	}
	return &ForgottenError{By: g.By, At: g.At}
}

// Unregister gives back all that the host holds, and then the host itself: the
// end of a leave. It is nil when nothing is left, so it can be repeated.
func (r *ClusterRecords) Unregister(ctx context.Context, self discovery.HostID, name string) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	if _, _, err := r.freeHeld(ctx, self); err != nil {
		return fmt.Errorf("give back what host %s holds: %w", name, err)
	}
	drops := ops(del(hostKey(self)))
	kv, err := r.store.lookup(ctx, nameKey(name))
	if err == nil && kv != nil && string(kv.Value) == self.String() {
		drops = append(drops, drop(nameKey(name), kv.ModifyIndex))
	}
	if err == nil {
		_, err = r.store.commit(ctx, drops...)
	}
	if err != nil {
		return fmt.Errorf("unregister host %s: %w", name, err)
	}
	return nil
}
