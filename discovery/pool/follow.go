package pool

import (
	"context"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/weft-net/weft/discovery/pace"
)

const (
	watchWait   = time.Minute            // of one blocking query
	watchJitter = watchWait / 4          // so that the hosts' queries do not end together
	watchPause  = 250 * time.Millisecond // refills one answer of the token bucket
	watchBurst  = 2

	backoffFirst = time.Second
	backoffMost  = 30 * time.Second
)

// newLimiter slows a store that answers at once, for whatever reason: it is asked
// watchBurst times and then once per watchPause.
func newLimiter() *rate.Limiter { return rate.NewLimiter(rate.Every(watchPause), watchBurst) }

// part is one folder as it was read.
type part struct {
	folder string
	pairs  api.KVPairs
	fell   bool // the index was lower than before
}

// follower is the loop of blocking queries for one folder.
type follower struct {
	store  *store
	folder string
	index  uint64 // to wait for a newer one; 0: answer at once
	seen   uint64 // of the last answer, also before an error
	limit  *rate.Limiter
}

// run sends the folder as it is after each answer that may be news.
func (f *follower) run(ctx context.Context, out chan<- part) {
	wait := pace.Backoff{First: backoffFirst, Most: backoffMost}
	for f.limit.Wait(ctx) == nil {
		u, news, err := f.ask(ctx)
		if err != nil {
			f.index = 0
			if !pace.Sleep(ctx, pace.Jitter(wait.Failed())) {
				return
			}
			continue
		}
		wait.Worked()
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
	pairs, index, early, err := f.store.blocking(ctx, f.folder, f.index)
	if err != nil {
		return u, false, err
	}
	fell := index < f.seen
	news = fresh || index != f.seen
	// The store may have been wiped, or be another cluster's by now; an empty folder
	// may be one that we are not allowed to see.
	if news || len(pairs) == 0 {
		limited, cancel := bound(ctx)
		defer cancel()
		if err := f.store.ours(limited, f.folder, len(pairs) == 0); err != nil {
			return u, false, err
		}
	}
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
