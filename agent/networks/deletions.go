package networks

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
)

// Users are this host's endpoints.
type Users interface {
	// On reports whether endpoints of this host are on the network. The host's own
	// address is none.
	On(n discovery.NetworkID) bool
	// EvictAll takes all that this host has off the network, its own address too.
	// False: something is left, and the log says why.
	EvictAll(ctx context.Context, n discovery.NetworkID) bool
	// Networks are those that endpoints of this host are on, its own address included.
	Networks() []discovery.NetworkID
	// Abandon makes a network without endpoints inactive at once, and not after a
	// while.
	Abandon(n discovery.NetworkID)
}

// Leases are this host's blocks.
type Leases interface {
	Blocks() []discovery.HeaderNetwork
	// Drop gives back what this host holds of a network.
	Drop(n discovery.NetworkID) error
}

// Holders says who has addresses of a network in the pool, and takes them away.
type Holders interface {
	Blocks(ctx context.Context, n discovery.Network) ([]discovery.Block, error)
	Reserved(ctx context.Context, n discovery.NetworkID, within netip.Prefix) (map[netip.Addr]discovery.Reservation, error)
	FreeNetworkHeld(ctx context.Context, n discovery.Network, host discovery.HostID) error
}

// Deletions does this host's part in deleting networks: those that a request names,
// and those that others delete.
type Deletions struct {
	Registry *Registry
	Store    Store
	Holders  Holders
	Users    Users
	Leases   Leases
	View     func() discovery.View
	Self     string // name of this host
	Events   event.Sink
	Log      *slog.Logger
}

// Remove deletes a network: refused while an endpoint is on it, alive or suspended,
// unless forced.
func (d *Deletions) Remove(ctx context.Context, n discovery.Network, force bool) error {
	users := d.View().Using(n.ID)
	if len(users) > 0 && !force {
		return api.Errorf(api.KindConflict, "in use by %s", strings.Join(users, ", ")).
			WithHint("agentctl network rm -f %s # detaches them", n.Name)
	}
	n, err := d.Store.DeleteNetwork(ctx, n.Name, d.Self, force)
	if err != nil {
		return err
	}
	d.tellRemoved(ctx, n, force, users)
	if force {
		if err := d.freeAbsent(ctx, n); err != nil {
			return err
		}
	}
	return d.await(ctx, n)
}

// tellRemoved emits that a user removed a network, and by force what was on it.
func (d *Deletions) tellRemoved(ctx context.Context, n discovery.Network, force bool, users []string) {
	e := event.Event{Subject: n.Name, Network: n.Name, By: api.Caller(ctx)}
	if force && len(users) > 0 {
		e.Kind, e.Text, e.Detail = event.Forced, "network "+n.Name+" was removed by force, with "+strings.Join(users, ", ")+" on it", map[string]any{"endpoints": users}
		d.Events.Emit(e)
	}
	e.Kind, e.Text, e.Detail = event.NetworkRemoved, "network "+n.Name+" removed", map[string]any{"id": n.ID.String()}
	d.Events.Emit(e)
}

// await waits until the network is gone everywhere in the pool. Every host gives
// its blocks back first; a host that is away may keep the network in state
// deleting, which is no failure.
func (d *Deletions) await(ctx context.Context, n discovery.Network) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		d.finish(ctx, n)
		if d.Store.AwaitFree(ctx, n) == nil {
			d.finish(ctx, n)
		}
		if d.Registry.awaitGone(ctx, n.ID, time.Second) { // then this host's endpoints may be gone that were left
			d.Registry.cfg.Changed()
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	if users := d.View().Using(n.ID); len(users) > 0 {
		return api.Errorf(api.KindConflict, "marked as deleting, but in use by %s", strings.Join(users, ", ")).
			WithHint("agentctl network rm -f %s # detaches them", n.Name)
	}
	return api.Errorf(api.KindTimeout, "marked as deleting, but a host still holds addresses of it").
		WithHint("agentctl network rm -f %s # frees those of hosts that are away", n.Name)
}

// Finish does this host's part for every network that is being deleted. It also
// does the last step for one of which no host holds anything.
func (d *Deletions) Finish(ctx context.Context) {
	for _, n := range d.Registry.ByName() {
		if n.State == discovery.NetworkDeleting {
			d.finish(ctx, n)
		}
	}
}

func (d *Deletions) finish(ctx context.Context, n discovery.Network) {
	if !d.emptied(ctx, n) {
		return
	}
	if _, err := d.Store.FinishDelete(ctx, n, d.Self); err != nil && ctx.Err() == nil {
		d.Log.Debug("network not deleted yet", "network", n.Name, "err", err)
	}
}

// emptied gives back what this host holds of a network; false while an endpoint
// is on it that nobody forced off.
func (d *Deletions) emptied(ctx context.Context, n discovery.Network) bool {
	if !n.Force && d.Users.On(n.ID) || !d.Users.EvictAll(ctx, n.ID) {
		return false
	}
	d.drop(n.ID)
	return true
}

// Follow removes what this host still has of networks that were deleted while it
// was away: a person asked for that.
func (d *Deletions) Follow(ctx context.Context) {
	deleted := d.Registry.tombstones()
	for _, id := range d.Users.Networks() {
		if _, ok := deleted[id]; ok {
			d.Users.EvictAll(ctx, id)
		}
	}
	for _, h := range d.Leases.Blocks() {
		if _, ok := deleted[h.ID]; ok {
			d.drop(h.ID)
		}
	}
}

// drop forgets a network here: its devices go with the next pass, its blocks go
// back.
func (d *Deletions) drop(id discovery.NetworkID) {
	d.Users.Abandon(id)
	if err := d.Leases.Drop(id); err != nil {
		d.Log.Warn("blocks of a deleted network not given back", "network", id, "err", err)
	}
}

// freeAbsent frees what hosts hold of a network that is being deleted, where their
// agents do not run: members whose agent is down or dead, and hosts that no member
// knows any more. That harms no one: the addresses go with the network, and its VNI
// is not given out again. The kernel of such a host keeps the network's devices
// until its agent is back and sees the tombstone (Follow).
func (d *Deletions) freeAbsent(ctx context.Context, n discovery.Network) error {
	holding, err := d.holding(ctx, n)
	if err != nil {
		return err
	}
	for _, m := range d.View().Members {
		if m.Status == discovery.StatusAlive || m.Status == discovery.StatusSuspect {
			delete(holding, m.ID)
		}
	}
	var errs []error
	for id := range holding {
		errs = append(errs, d.Holders.FreeNetworkHeld(ctx, n, id))
	}
	return errors.Join(errs...)
}

// holding are the hosts that have blocks or reserved addresses of a network.
func (d *Deletions) holding(ctx context.Context, n discovery.Network) (map[discovery.HostID]bool, error) {
	out := map[discovery.HostID]bool{}
	blocks, err := d.Holders.Blocks(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		out[b.Host] = true
	}
	for _, sub := range n.Subnets {
		reserved, err := d.Holders.Reserved(ctx, n.ID, sub.CIDR)
		if err != nil {
			return nil, err
		}
		for _, r := range reserved {
			out[r.Host] = true
		}
	}
	return out, nil
}
