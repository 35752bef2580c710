package pool

import (
	"context"
	"reflect"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// Contents is what every host follows of the store.
type Contents struct {
	Networks []discovery.Network // by VNI
	Gone     map[discovery.HostID]GoneBy
	NetGone  map[discovery.NetworkID]GoneBy
	// Restored counts how often the store's index fell since the watch began:
	// it may have been restored from an old copy, so what this host holds
	// should be asserted again. Each folder counts its own, so that one
	// restore may be shown more than once.
	Restored int
}

// Watch calls deliver with the contents once all of them have been read, and
// after each change of them; never with what a failing, foreign or empty store
// seems to hold. deliver is called from one goroutine; it returns the networks that
// this host does not take, which are then refused like keys that are not ours.
// Watch returns nil when ctx ends.
func (r *NetworkRecords) Watch(ctx context.Context, deliver func(Contents) []strict.Clash) error {
	parts := make(chan part)
	var wg sync.WaitGroup
	// meta tells at once that the store was wiped or replaced.
	folders := []string{folderNets, folderNetGone, folderGone, keyMeta}
	for _, folder := range folders {
		f := follower{store: r.store, folder: folder, limit: newLimiter()}
		wg.Go(func() { f.run(ctx, parts) })
	}
	wg.Go(func() { r.store.recheck(ctx, folders) })
	defer wg.Wait()

	state := map[string]api.KVPairs{}
	restored := 0
	var told *Contents
	var clashes []strict.Clash
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-parts:
			if u.fell {
				restored++
			}
			state[u.folder] = u.pairs
		}
		if len(state) < len(folders) {
			continue
		}
		c, refused := r.contents(state)
		c.Restored = restored
		if told == nil || !reflect.DeepEqual(*told, c) {
			told = &c
			clashes = deliver(c)
		}
		for _, clash := range clashes {
			refused[netKey(clash.Name)] = malformed("%s", clash.Why)
		}
		r.store.refusals.folder(folderNets, refused)
	}
}

// contents reads the values. What is refused is left out: an absent network
// removes nothing, and the others must not wait for it.
func (r *NetworkRecords) contents(state map[string]api.KVPairs) (c Contents, refused map[string]error) {
	c = Contents{Gone: map[discovery.HostID]GoneBy{}, NetGone: map[discovery.NetworkID]GoneBy{}}
	nets, refused := parseAll(state[folderNets], parseNet)
	for _, n := range nets {
		c.Networks = append(c.Networks, n.Network)
	}
	for _, g := range readAll(r.store, folderGone, state[folderGone], parseGone) {
		c.Gone[g.id] = g.GoneBy
	}
	for _, g := range readAll(r.store, folderNetGone, state[folderNetGone], parseNetGone) {
		c.NetGone[g.id] = g.GoneBy
	}
	discovery.SortNetworks(c.Networks)
	return c, refused
}
