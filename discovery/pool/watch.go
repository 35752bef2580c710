package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

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

const (
	watchWait   = time.Minute            // of one blocking query
	watchJitter = watchWait / 4          // so that the hosts' queries do not end together
	watchPause  = 250 * time.Millisecond // refills one answer of the token bucket
	watchBurst  = 2

	backoffFirst = time.Second
	backoffMost  = 30 * time.Second
)

// part is one folder as it was read.
type part struct {
	folder string
	pairs  api.KVPairs
	fell   bool // the index was lower than before
}

// Watch calls deliver with the contents once all of them have been read, and
// after each change of them; never with what a failing, foreign or empty store
// seems to hold. deliver is called from one goroutine. Watch returns nil when
// ctx ends.
func (p *Pool) Watch(ctx context.Context, deliver func(Contents)) error {
	parts := make(chan part)
	var wg sync.WaitGroup
	folders := []string{folderNets, folderNetGone, folderGone}
	for _, folder := range folders {
		wg.Go(func() { p.follow(ctx, folder, parts) })
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
		c := p.contents(state)
		c.Restored = restored
		if told == nil || !reflect.DeepEqual(*told, c) {
			told = &c
			deliver(c)
		}
	}
}

// contents reads the values. One that cannot be read is left out and logged: an
// absent network removes nothing, and the others must not wait for it.
func (p *Pool) contents(state map[string]api.KVPairs) Contents {
	c := Contents{Gone: map[discovery.HostID]GoneBy{}, NetGone: map[discovery.NetworkID]GoneBy{}}
	bad := func(kv *api.KVPair, err error) {
		p.log.Error("unreadable key of the store", "key", kv.Key, "err", err)
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

// follower is the loop of blocking queries for one folder.
type follower struct {
	p      *Pool
	folder string
	index  uint64 // to wait for a newer one; 0: answer at once
	seen   uint64 // of the last answer, also before an error
	bucket bucket
}

// follow sends the folder as it is after each answer that may be news.
func (p *Pool) follow(ctx context.Context, folder string, out chan<- part) {
	f := follower{p: p, folder: folder, bucket: bucket{tokens: watchBurst, last: time.Now()}}
	backoff := backoffFirst
	for f.bucket.take(ctx) {
		u, news, err := f.ask(ctx)
		if err != nil {
			f.index = 0
			if !pause(ctx, backoff/2+rand.N(backoff/2)) {
				return
			}
			backoff = min(2*backoff, backoffMost)
			continue
		}
		backoff = backoffFirst
		if !news {
			continue
		}
		select {
		case out <- u:
		case <-ctx.Done():
			return
		}
	}
}

// ask makes one blocking query. No news: nothing changed before its time was
// over.
func (f *follower) ask(ctx context.Context) (u part, news bool, err error) {
	fresh := f.index == 0
	pairs, index, early, err := f.p.blocking(ctx, f.folder, f.index)
	if err != nil {
		return u, false, err
	}
	// An empty folder may be one that we are not allowed to see, or another
	// cluster's; and after an error anything may have happened to the store.
	fell := index < f.seen
	if fresh || fell || len(pairs) == 0 {
		limited, cancel := bound(ctx)
		defer cancel()
		if _, err := f.p.look(limited); err != nil && !errors.Is(err, ErrNewerSchema) {
			return u, false, err
		}
	}
	news = fresh || index != f.seen
	f.index, f.seen = max(index, 1), index
	if fell || early && !news {
		// The copy was restored, or tombstones were dropped: ask as if for the
		// first time. Consul ends its queries when a copy is restored, but
		// still answers from the old one; asked for more than the index of
		// that, the new one would be silent for a minute.
		f.index = 0
	}
	return part{f.folder, pairs, fell}, news, nil
}

// blocking asks for a folder and waits until its index is above the given one.
// Any server may answer: the next answer will be newer. early: the time to wait
// was not over.
func (p *Pool) blocking(ctx context.Context, folder string, above uint64) (pairs api.KVPairs, index uint64, early bool, err error) {
	wait := watchWait + rand.N(watchJitter)
	// The server adds a sixteenth of its own; a connection that died without a
	// word must end too.
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+callLimit)
	defer cancel()
	token, err := p.token()
	if err != nil {
		return nil, 0, false, p.note(err)
	}
	q := &api.QueryOptions{AllowStale: true, WaitIndex: above, WaitTime: wait, Token: token}
	start := time.Now()
	pairs, qm, err := p.client.KV().List(p.prefix+folder, q.WithContext(ctx))
	if err == nil && qm.ResultsFilteredByACLs {
		err = ErrPermission
	}
	if err = p.note(err); err != nil {
		return nil, 0, false, err
	}
	return p.relative(pairs), qm.LastIndex, time.Since(start) < wait, nil
}

// bucket is a token bucket: a store that answers at once, for whatever reason,
// is asked watchBurst times and then once per watchPause.
type bucket struct {
	tokens float64
	last   time.Time
}

// take waits for a token; false: ctx ended.
func (b *bucket) take(ctx context.Context) bool {
	now := time.Now()
	b.tokens = min(b.tokens+float64(now.Sub(b.last))/float64(watchPause), watchBurst)
	b.last = now
	b.tokens--
	if b.tokens >= 0 {
		return ctx.Err() == nil
	}
	return pause(ctx, time.Duration(-b.tokens*float64(watchPause)))
}

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
