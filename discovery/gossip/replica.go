package gossip

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/table"
)

// replica is this host's copy of the cluster's table, with the exchange that
// keeps it equal to the others'. What an exchange wants sent goes to the sender.
type replica struct {
	changes pace.Signal // the view changed
	flush   pace.Signal // own state changed: flush soon
	ack     atomic.Pointer[[]byte]
	refused sync.Map // discovery.HostID of forgotten hosts, for memberlist's callbacks
	log     *slog.Logger
	send    func([]table.Packet)

	forgotten func(by string) // may be nil

	mu    sync.Mutex // guards what follows
	table *table.Table
	x     *table.Exchange
	seen  uint64 // revision that changes was signalled for
	// untold are members that were seen and whose names are not known yet.
	untold map[discovery.HostID]netip.AddrPort
}

func newReplica(t *table.Table, x *table.Exchange, log *slog.Logger) *replica {
	r := &replica{table: t, x: x, log: log, changes: pace.NewSignal(), flush: pace.NewSignal(), untold: map[discovery.HostID]netip.AddrPort{}}
	for _, id := range t.ForgottenHosts() {
		r.refused.Store(id, struct{}{})
	}
	r.publishAck()
	return r
}

// read runs f, which changes nothing, under the lock.
func (r *replica) read(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *replica) view() discovery.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.View()
}

func (r *replica) peers() []table.Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Peers()
}

// update runs a change of the own state and tells whom it concerns.
func (r *replica) update(change func(t *table.Table)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.table)
	r.noteChanges()
	r.flush.Set()
}

// step changes the table under the lock and sends what comes of it.
func (r *replica) step(f func(now time.Time)) {
	r.mu.Lock()
	f(time.Now())
	r.noteChanges()
	out, unsent, by := r.x.Take(), r.x.Unsent(), r.x.GoneSaid()
	r.mu.Unlock()
	r.send(out)
	if unsent {
		r.flush.Set() // a new incarnation was needed
	}
	if by != "" && r.forgotten != nil {
		r.forgotten(by)
	}
}

// noteChanges signals a changed view; r.mu is held.
func (r *replica) noteChanges() {
	r.publishAck()
	if rev := r.table.Revision(); rev != r.seen {
		r.seen = rev
		r.changes.Set()
		for id, at := range r.untold {
			r.tellAlive(id, at)
		}
	}
}

// tellAlive logs that a member was seen; r.mu is held. Gossip calls it by its id alone:
// one that has just come is told once its own state has said how it is called.
func (r *replica) tellAlive(id discovery.HostID, at netip.AddrPort) {
	v := r.table.View()
	m := v.Member(id)
	if m.Name == "" {
		r.untold[id] = at
		return
	}
	r.log.Info("member alive", v.LogMember(id), "addr", at)
	delete(r.untold, id)
}

func (r *replica) publishAck() {
	b := r.x.Ack()
	r.ack.Store(&b)
}

// forget refuses the hosts, also while memberlist asks without the lock.
func (r *replica) forget(ids []discovery.HostID) {
	r.update(func(t *table.Table) {
		for _, id := range ids {
			if id != t.Self() {
				r.refused.Store(id, struct{}{})
			}
		}
		t.Forget(ids)
		for _, id := range ids {
			delete(r.untold, id)
		}
	})
}

func (r *replica) refuses(id discovery.HostID) bool {
	_, ok := r.refused.Load(id)
	return ok
}

// established reports whether any member holds a state of this start of ours.
func (r *replica) established() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.x.Established()
}

// silent reports whether this host was forgotten: it may announce nothing.
func (r *replica) silent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.x.Silent()
}

// heldBy reports whether the member holds a state of this start of ours.
func (r *replica) heldBy(id discovery.HostID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.x.HeldBy(id).Inc == r.table.OwnVersion().Inc
}

// behind returns how many alive members have not shown the newest own version.
func (r *replica) behind() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.x.Behind())
}
