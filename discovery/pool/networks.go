package pool

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
)

// NetworkSpec is a network that somebody asks for. Subnets, gateways, ranges and
// auxiliary addresses are text as it was typed.
type NetworkSpec struct {
	Name     string
	Subnets  []string // none: one of the pool's is picked
	Gateways []string
	Ranges   []string          // bound the blocks
	Aux      map[string]string // addresses that are never handed out, by name
	Internal bool
	MTU      int // bytes; 0: derived from the underlay
	Driver   string
	Labels   map[string]string
	Options  map[string]string
	By       string  // who asks
	Avoid    []Avoid // of all members
	// Carried are networks that hosts have, whatever the store says of them by now:
	// their VNIs, names and addresses are not given again before they were deleted.
	Carried []Carried
	// Refused are networks of the store that no host takes: their addresses are free.
	Refused []discovery.NetworkID
}

// Carried is a network that a host has. Of one that only another host knows the name
// is missing, and the subnets are that host's blocks.
type Carried struct {
	discovery.Network
	Host string // that has it
}

// NetworkRecords are the networks of the store: made, followed and deleted.
type NetworkRecords struct{ store *store }

// Networks lists the networks by VNI, those that are being deleted too.
func (r *NetworkRecords) Networks(ctx context.Context) ([]discovery.Network, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	nets, err := r.nets(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	out := make([]discovery.Network, len(nets))
	for i, n := range nets {
		out[i] = n.Network
	}
	discovery.SortNetworks(out)
	return out, nil
}

func (r *NetworkRecords) nets(ctx context.Context) ([]netValue, error) {
	pairs, err := r.store.list(ctx, folderNets)
	if err != nil {
		return nil, err
	}
	nets, _ := parseAll(pairs, parseNet) // the watch says what is refused
	return nets, nil
}

// gen is the generation of the networks. It must be read before what is
// decided by it: a transaction with its next then holds only if nothing
// changed since.
type gen struct {
	genValue
	kv *api.KVPair // nil: there was none
}

func (r *NetworkRecords) gen(ctx context.Context) (g gen, err error) {
	if g.kv, err = r.store.lookup(ctx, keyGen); err != nil {
		return g, err
	}
	g.NextVNI = firstVNI
	if g.kv != nil {
		g.genValue, _ = readOne(r.store, g.kv, parseGen) // what is refused is written anew
	}
	g.NextVNI = min(max(g.NextVNI, firstVNI), lastVNI)
	return g, nil
}

// next is the operation that begins the generation behind g.
func (g gen) next(nextVNI uint32) *api.KVTxnOp {
	v := genValue{N: g.N + 1, NextVNI: nextVNI}
	if g.kv == nil {
		return cas(keyGen, 0, encode(v))
	}
	return cas(keyGen, g.kv.ModifyIndex, rewrite(g.kv.Value, v))
}

// CreateNetwork makes a network that overlaps no other and nothing to avoid.
// An *OverlapError names what is in the way, ErrExists a network of that name,
// ErrInvalid the thing that is wrong with the request; discovery.ErrFull: the pool
// has no subnet left. Whoever asks knows which network it is: no error repeats it.
func (r *NetworkRecords) CreateNetwork(ctx context.Context, spec NetworkSpec) (discovery.Network, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	n := discovery.Network{Name: spec.Name, State: discovery.NetworkUp, MTU: spec.MTU, Internal: spec.Internal,
		Driver: cmp.Or(spec.Driver, "weft"), Labels: spec.Labels, Options: spec.Options, Created: time.Now().UTC(), By: spec.By}
	rand.Read(n.ID[:])
	strays := map[uint32]bool{} // VNIs that no network has, and yet a key says so
	for {
		g, err := r.assign(ctx, spec, &n, strays)
		if err != nil {
			return n, err
		}
		out, err := r.store.commit(ctx,
			g.next(n.VNI+1),
			cas(netKey(n.Name), 0, encode(n)),
			cas(vniKey(n.VNI), 0, []byte(n.Name)))
		if err != nil || out.ok() {
			return n, err
		}
		if out.failed[1] {
			if made, err := r.created(ctx, n); made || err != nil {
				return n, err
			}
		}
		if !out.failed[0] && !out.failed[1] {
			strays[n.VNI] = true
		}
		if err := afterLostRace(ctx); err != nil {
			return n, err
		}
	}
}

// assign gives the network its subnets and VNI, by what the store holds now.
func (r *NetworkRecords) assign(ctx context.Context, spec NetworkSpec, n *discovery.Network, strays map[uint32]bool) (gen, error) {
	g, err := r.gen(ctx)
	if err != nil {
		return g, err
	}
	nets, err := r.nets(ctx)
	if err != nil {
		return g, err
	}
	lost, err := r.lost(ctx, spec.Carried, nets)
	if err != nil {
		return g, err
	}
	if slices.ContainsFunc(lost, func(o Carried) bool { return o.Name == n.Name && o.ID != n.ID }) {
		return g, fmt.Errorf("%w: hosts carry it, and write it back into the store, which has lost its key", ErrExists)
	}
	if slices.ContainsFunc(nets, func(o netValue) bool { return o.Name == n.Name && o.ID != n.ID }) {
		return g, ErrExists
	}
	s, err := r.store.stamp(ctx)
	if err != nil {
		return g, err
	}
	n.VNI = g.free(nets, lost, strays)
	nets = slices.DeleteFunc(nets, func(o netValue) bool { return slices.Contains(spec.Refused, o.ID) })
	if n.Subnets, err = spec.layout(s.meta.Pool, append(spec.uses(nets), lostUses(lost)...)); err != nil {
		return g, err
	}
	return g, strict.Network(*n)
}

// lost are the networks that hosts carry and that the store has neither listed nor
// called deleted: somebody removed their keys, or the store is not filled again yet.
func (r *NetworkRecords) lost(ctx context.Context, carried []Carried, nets []netValue) (out []Carried, err error) {
	has := map[discovery.NetworkID]bool{} // or says that it was deleted
	for _, n := range nets {
		has[n.ID] = true
	}
	for _, c := range carried {
		known, ok := has[c.ID]
		if !ok {
			gone, err := r.store.lookup(ctx, netGoneKey(c.ID))
			if err != nil {
				return nil, err
			}
			known = gone != nil
			has[c.ID] = known
		}
		if !known {
			out = append(out, c)
		}
	}
	return out, nil
}

// free is a VNI that no network has, from the one on that is the next.
func (g gen) free(nets []netValue, lost []Carried, strays map[uint32]bool) uint32 {
	used := maps.Clone(strays)
	for _, c := range lost {
		used[c.VNI] = true
	}
	for _, n := range nets {
		used[n.VNI] = true
	}
	vni := g.NextVNI
	for used[vni] || vni < firstVNI || vni > lastVNI {
		if vni++; vni > lastVNI {
			vni = firstVNI
		}
	}
	return vni
}

// layout is the network's subnets: those asked for, or a free one of the pool.
func (r NetworkSpec) layout(pool netip.Prefix, used []use) ([]discovery.Subnet, error) {
	subnets, err := r.subnets()
	if err != nil {
		return nil, err
	}
	for _, s := range subnets {
		if err := checkOverlap(s.CIDR, pool, used); err != nil {
			return nil, err
		}
	}
	if len(subnets) == 0 {
		bits := max(automatic, pool.Bits())
		next, ok := free(pool, bits, used)
		if !ok {
			return nil, fmt.Errorf("no /%d of the pool %s is free: %w", bits, pool, discovery.ErrFull)
		}
		subnets = []discovery.Subnet{newSubnet(next)}
	}
	return subnets, r.furnish(subnets)
}

// created reports whether the store holds this very network: an earlier try, of
// which no answer came, may have made it.
func (r *NetworkRecords) created(ctx context.Context, n discovery.Network) (bool, error) {
	now, kv, err := r.net(ctx, n.Name)
	return kv != nil && now.ID == n.ID, err
}

// afterLostRace waits a moment, so that many who race do not stay in step. Its
// error is ErrUnavailable: nothing is known of the outcome.
func afterLostRace(ctx context.Context) error {
	if !pace.Sleep(ctx, mrand.N(20*time.Millisecond)) {
		return fmt.Errorf("%w: too many changes at once: %w", ErrUnavailable, ctx.Err())
	}
	return nil
}

// net reads one network; its pair is nil when there is none.
func (r *NetworkRecords) net(ctx context.Context, name string) (n netValue, kv *api.KVPair, err error) {
	if kv, err = r.store.lookup(ctx, netKey(name)); err != nil || kv == nil {
		return n, nil, err
	}
	n, err = readOne(r.store, kv, parseNet)
	return n, kv, err
}
