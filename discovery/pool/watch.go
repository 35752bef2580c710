package pool

import (
	"context"
	"reflect"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
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
// seems to hold. deliver is called from one goroutine. Watch returns nil when
// ctx ends.
func (r *NetworkRecords) Watch(ctx context.Context, deliver func(Contents)) error {
	parts := make(chan part)
	var wg sync.WaitGroup
	folders := []string{folderNets, folderNetGone, folderGone}
	for _, folder := range folders {
		f := follower{store: r.store, folder: folder, limit: newLimiter()}
		wg.Go(func() { f.run(ctx, parts) })
	}
	defer wg.Wait()

	state := map[string]api.KVPairs{}
	restored := 0
	var told *Contents
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
		c := r.contents(state)
		c.Restored = restored
		if told == nil || !reflect.DeepEqual(*told, c) {
			told = &c
			deliver(c)
		}
	}
}

// contents reads the values. One that cannot be read is left out and logged: an
// absent network removes nothing, and the others must not wait for it.
func (r *NetworkRecords) contents(state map[string]api.KVPairs) Contents {
	c := Contents{Gone: map[discovery.HostID]GoneBy{}, NetGone: map[discovery.NetworkID]GoneBy{}}
	bad := func(kv *api.KVPair, err error) {
		r.store.log.Error("unreadable key of the store", "key", kv.Key, "err", err)
	}
	for _, kv := range state[folderNets] {
		if n, err := parseNet(kv); err != nil {
			bad(kv, err)
		} else {
			c.Networks = append(c.Networks, n.Network)
		}
	}
	for _, kv := range state[folderGone] {
		if id, g, err := parseGone(kv); err != nil {
			bad(kv, err)
		} else {
			c.Gone[id] = g
		}
	}
	for _, kv := range state[folderNetGone] {
		if id, g, err := parseNetGone(kv); err != nil {
			bad(kv, err)
		} else {
			c.NetGone[id] = g
		}
	}
	discovery.SortNetworks(c.Networks)
	return c
}
