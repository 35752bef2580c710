package membership

import (
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/pool"
)

const (
	strangersMost = 16   // hosts that gossip shows before the pool does
	unreadMost    = 1024 // the same while the pool was never read here

	hintFirst = 100 * time.Millisecond // from one reading of the pool's hosts to the next that gossip asks for
	hintMost  = 8 * time.Second        // while the readings bring nothing new
)

// Registry is the members that the pool registers, as this host read them last: its
// own copy, which counts while the pool is away. Gossip asks it whom to take in.
type Registry struct {
	wake pace.Signal // gossip shows something that the copy does not have

	mu        sync.Mutex
	hosts     map[discovery.HostID]discovery.Registered // replaced, never changed; nil: never read
	read      bool                                      // hosts are what the pool has now
	strangers map[discovery.HostID]int                  // hosts without a record that were taken in: how many readings did not have them
	save      func([]byte) error                        // may be nil
}

func newRegistry() *Registry {
	return &Registry{wake: pace.NewSignal(), strangers: map[discovery.HostID]int{}}
}

// Restore takes the copy of the last start, and where to keep it.
func (r *Registry) Restore(saved []byte, save func([]byte) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.save = save
	if saved == nil {
		return nil
	}
	return json.Unmarshal(saved, &r.hosts)
}

// Admits reports whether a host is a member for gossip: one that the pool registers.
// Of those that run, a few others may be taken in, since the pool may have them by now.
func (r *Registry) Admits(id discovery.HostID, running bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.hosts[id]; ok {
		return true
	}
	if _, ok := r.strangers[id]; ok {
		return running || r.hosts == nil
	}
	if !running && r.hosts != nil {
		return false
	}
	r.wake.Set()
	most := strangersMost
	if r.hosts == nil {
		most = unreadMost
	}
	if len(r.strangers) >= most {
		return false
	}
	r.strangers[id] = 0
	return true
}

// snapshot returns the copy, and whether it is what the pool has now.
func (r *Registry) snapshot() (hosts map[discovery.HostID]discovery.Registered, read bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hosts, r.read
}

// Registered is the copy for a plan; nil: the pool was never read. When the view has
// what it has not, the pool is read again soon.
func (r *Registry) Registered(v discovery.View) (hosts map[discovery.HostID]discovery.Registered, read bool) {
	hosts, read = r.snapshot()
	for _, o := range v.Members {
		h, ok := hosts[o.ID]
		if (!ok || o.Header.VTEP.IsValid() && o.Header.VTEP != h.VTEP) && o.Header.Flags&discovery.FlagGone == 0 {
			r.wake.Set()
			break
		}
	}
	return hosts, read
}

// away notes that the pool cannot be read.
func (r *Registry) away() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = false
}

// take takes what the pool has. A record that is missing is kept while gone does not
// say that its host left or was taken out: a store may have lost it. Without a record
// of this host the store has lost some for sure. It returns the strangers that were
// given time to register and did not, and whether anything is new.
func (r *Registry) take(self discovery.HostID, all []pool.Host, gone func(discovery.HostID) bool) (drop []discovery.HostID, news bool, err error) {
	next := map[discovery.HostID]discovery.Registered{}
	for _, h := range all {
		next[h.ID] = discovery.Registered{Name: h.Name, VTEP: h.VTEP, Gossip: h.Gossip}
	}
	_, whole := next[self]
	r.mu.Lock()
	before, save := r.hosts, r.save
	for id, h := range before {
		if _, ok := next[id]; !ok && (!whole || !gone(id)) {
			next[id] = h
		}
	}
	news = !maps.Equal(before, next)
	r.hosts, r.read = next, whole
	drop = r.sort(whole)
	r.mu.Unlock()
	if news && save != nil {
		var b []byte
		if b, err = json.Marshal(next); err == nil {
			err = save(b)
		}
	}
	return drop, news, err
}

// sort finds the strangers that are registered by now, and those that are not after
// two readings: the first may have begun before they registered. r.mu is held.
func (r *Registry) sort(whole bool) (drop []discovery.HostID) {
	for id, missed := range r.strangers {
		_, known := r.hosts[id]
		switch {
		case known:
			delete(r.strangers, id)
		case !whole:
		case missed > 0:
			delete(r.strangers, id)
			drop = append(drop, id)
		default:
			r.strangers[id] = missed + 1
			r.wake.Set()
		}
	}
	return drop
}
