package gossip

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// Config is what a member is made of. Self, Bind, Cluster and Keys are needed.
// The functions in it may call the Gossip's methods but must not wait for Run
// to end.
type Config struct {
	Self               discovery.HostID
	Name, Version      string
	Incarnation, Nonce uint64
	Bind               netip.AddrPort // TCP and UDP; a real address, since it is advertised
	Cluster            [16]byte
	Keys               [][]byte // 16, 24 or 32 bytes; the first encrypts, all decrypt
	Profile            string   // "lan", also when empty, or "wan"
	Header             discovery.Header
	Endpoints          []discovery.Endpoint // restored: the first version contains them
	Saved              []byte               // what Save was last given, nil on the first start
	// Save stores peers and table. It is called from one goroutine, at most a
	// second after a change; after an error again. May be nil.
	Save func([]byte) error
	// Seeds returns more hosts to try while a known one is missing; asked once
	// a minute at most. May be nil.
	Seeds     func(context.Context) ([]netip.AddrPort, error)
	Serve     func(from discovery.HostID, body []byte) []byte // answers Call; may be nil
	Forgotten func(by string)                                 // a member says that this host is: a hint to ask the pool, at most once a second from each; may be nil
	Conflict  func(other netip.AddrPort)                      // another instance runs under our id, and is the one that the members hold; may be nil
	Border    Border
	DNSGrace  time.Duration // from death to hidden names
	Log       *slog.Logger  // nil: discarded
}

// Border is what of others is taken in. The zero value takes in all hosts.
type Border struct {
	// Admit is called under locks and must not wait. Nil admits all.
	Admit table.Admit
	Most  int // endpoints that are held of one other host; 0: table.MostEndpoints
}

// Gossip is this host as a member of the cluster. Its methods are safe for
// concurrent use.
type Gossip struct {
	cfg       Config
	trans     *transport
	keyring   *memberlist.Keyring
	replica   *replica
	sender    *sender
	contacts  *contacts
	caller    *caller
	liveness  *liveness
	clones    *clones
	rejoiner  *rejoiner
	saver     *saver
	inbox     *inbox
	paths     *paths
	strangers *strangers
	work      *sync.WaitGroup // goroutines that Run waits for
	count     *counters
	left      atomic.Bool
}

// New binds the gossip port and is a cluster of one, or of what Saved holds,
// until Run. It fails with a wrapped syscall.EADDRINUSE when the port is taken.
func New(cfg Config) (*Gossip, error) { return open(cfg, nil) }

// open is New with a way to change the parts before they start, for tests.
func open(cfg Config, adjust func(*Gossip, *memberlist.Config)) (*Gossip, error) {
	if !cfg.Bind.Addr().IsValid() || cfg.Bind.Addr().IsUnspecified() {
		return nil, fmt.Errorf("gossip: bind address %s: a host's own address is needed", cfg.Bind)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	profile := profileOf(cfg.Profile)
	t, err := openTable(cfg)
	if err != nil {
		return nil, err
	}
	keyring, err := memberlist.NewKeyring(cfg.Keys, first(cfg.Keys))
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	trans, err := listen(cfg.Bind)
	if err != nil {
		return nil, err
	}
	t.SetMember(time.Now(), cfg.Self, trans.addr, discovery.StatusAlive)
	g := assemble(cfg, newReplica(t, table.NewExchange(t, profile.stretch, cfg.Nonce), cfg.Log), trans)
	g.keyring = keyring
	conf := g.config(profile)
	if adjust != nil {
		adjust(g, conf)
	}
	trans.start()
	ml, err := memberlist.Create(conf)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: %w", err), trans.Shutdown())
	}
	g.sender.ml, g.contacts.ml = ml, ml
	return g, nil
}

// junk counts what came and made no sense.
func (g *Gossip) junk(from netip.Addr) {
	g.count.junk.Add(1)
	g.strangers.note(from, time.Now())
}

// assemble makes the parts, which have no memberlist yet.
func assemble(cfg Config, r *replica, trans *transport) *Gossip {
	g := &Gossip{cfg: cfg, trans: trans, replica: r, work: &sync.WaitGroup{}, count: &counters{}}
	g.sender = newSender(cfg.Log, g.work, g.count)
	g.sender.called = func(id discovery.HostID) slog.Attr { return g.replica.view().LogMember(id) }
	trans.gate.member, trans.gate.refused = g.sender.isAt, g.junk
	g.strangers = &strangers{member: g.sender.isAt}
	r.send, r.forgotten = g.sender.dispatch, cfg.Forgotten
	g.contacts = &contacts{trans: trans, label: labelOf(cfg.Cluster), work: g.work, count: g.count, log: cfg.Log}
	g.caller = &caller{self: cfg.Self, sender: g.sender, serve: cfg.Serve, open: map[uint64]chan []byte{}, seq: rand.Uint64() >> 1}
	g.liveness = &liveness{replica: r, sender: g.sender, contacts: g.contacts, seq: map[discovery.HostID]uint64{}}
	g.clones = &clones{self: cfg.Self, nonce: cfg.Nonce, inc: r.table.OwnVersion().Inc, at: trans.addr, conflict: cfg.Conflict,
		replica: r, contacts: g.contacts}
	g.rejoiner = &rejoiner{self: trans.addr, seeds: cfg.Seeds, replica: r, contacts: g.contacts, log: cfg.Log,
		given: map[netip.AddrPort]struct{}{}, pauses: map[netip.AddrPort]pause{}}
	g.saver = newSaver(cfg.Save, r, g.count)
	g.inbox = newInbox(g.count)
	g.paths = newPaths(profileOf(cfg.Profile).config().ProbeInterval)
	g.paths.ask, trans.arrived = g.contacts.answers, g.paths.arrived
	g.paths.stream = func(id discovery.HostID, at netip.AddrPort) bool {
		return g.contacts.meet(candidate{id: id, at: at}) == nil
	}
	g.paths.members = func() []discovery.Member {
		return slices.DeleteFunc(slices.Clone(r.view().Members), func(m discovery.Member) bool { return m.ID == cfg.Self })
	}
	return g
}

func first(keys [][]byte) []byte {
	if len(keys) == 0 {
		return nil
	}
	return keys[0]
}

// openTable makes the table. When the saved one cannot be read, the agent logs that
// and begins without it: it must run.
func openTable(cfg Config) (*table.Table, error) {
	h := cfg.Header
	h.Name, h.Version, h.Nonce = cfg.Name, cfg.Version, cfg.Nonce
	h.FormatMin, h.FormatMax = table.FormatMin, table.FormatMax
	tc := table.Config{Self: cfg.Self, Incarnation: cfg.Incarnation, Header: h,
		Endpoints: cfg.Endpoints, Saved: cfg.Saved, Grace: cfg.DNSGrace, Now: time.Now(), Admit: cfg.Border.Admit, Most: cfg.Border.Most}
	t, err := table.New(tc)
	if errors.Is(err, discovery.ErrMalformed) {
		cfg.Log.Warn("saved table unreadable, starting without it", "err", err)
		tc.Saved = nil
		t, err = table.New(tc)
	}
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return t, nil
}

// config returns memberlist's settings. Compression is off: the messages are
// small and binary, and states need one round trip at most.
func (g *Gossip) config(p profile) *memberlist.Config {
	c := p.config()
	c.Name = g.cfg.Self.String()
	c.Transport = g.trans
	c.BindAddr, c.BindPort = g.trans.addr.Addr().String(), int(g.trans.addr.Port())
	c.AdvertisePort = c.BindPort
	c.Label = g.contacts.label
	c.Keyring = g.keyring
	c.EnableCompression = false
	// A dead host is taken at another address at once: its name is its id, so
	// nobody else can have it, and clones tells an instance under the same id.
	c.DeadNodeReclaimTime = 100 * time.Millisecond
	c.GossipToTheDeadTime = 60 * time.Second
	c.HandoffQueueDepth = 8192
	c.RequireNodeNames = true
	c.Logger = newLogBridge(g.cfg.Log, g.junk).logger()
	m := meta{table.FormatMin, table.FormatMax, g.replica.table.OwnVersion().Inc, g.cfg.Nonce}
	d := &delegate{self: c.Name, meta: m.encode(), admit: g.cfg.Border.Admit, replica: g.replica, inbox: g.inbox}
	c.Delegate, c.Events, c.Ping, c.Conflict, c.Alive = d, d, d, d, d
	return c
}

// labelOf keeps the packets of two clusters apart; it is no secret.
func labelOf(cluster [16]byte) string { return hex.EncodeToString(cluster[:8]) }

// Addr returns the address that the gossip port is bound to.
func (g *Gossip) Addr() netip.AddrPort { return g.trans.addr }

// View returns what is known now. It is cheap while nothing changes; its lists
// are shared and must not be written to. Equal tables give equal views.
func (g *Gossip) View() discovery.View { return g.replica.view() }

// Changes returns a channel with at least one signal after each change of View.
func (g *Gossip) Changes() <-chan struct{} { return g.replica.changes }

// Announce changes the own endpoints. View shows it when it returns; the
// members are told about 10 ms later, together with what follows.
func (g *Gossip) Announce(up []discovery.Endpoint, del []discovery.EndpointID) {
	g.replica.update(func(t *table.Table) { t.Announce(up, del) })
}

// SetHeader changes the own header, by one version if it differs afterwards.
func (g *Gossip) SetHeader(change func(h *discovery.Header)) {
	g.replica.update(func(t *table.Table) { t.SetHeader(change) })
}

// Forget drops hosts and refuses them from now on, whatever their incarnation.
// The own header's GoneHash tells the others that it was done.
func (g *Gossip) Forget(ids []discovery.HostID) { g.replica.forget(ids) }

// SetHolder says who holds which address, as the pool has it, from now on.
func (g *Gossip) SetHolder(h table.Holder) {
	g.replica.update(func(t *table.Table) { t.SetHolder(h) })
}

// Reconsider asks Admit again: hosts that are not admitted are dropped, and those that
// are running members by now are taken in.
func (g *Gossip) Reconsider(drop []discovery.HostID) {
	g.replica.update(func(t *table.Table) { t.Reconsider(drop) })
	known := map[string]bool{}
	for _, p := range g.replica.peers() {
		known[p.ID.String()] = p.Seen
	}
	for _, n := range g.contacts.ml.Members() {
		if id, ok := hostID(n.Name); ok && !known[n.Name] && id != g.cfg.Self && g.admits(id) {
			g.inbox.putEvent(event{kind: memberUp, node: copyNode(n)})
		}
	}
}

func (g *Gossip) admits(id discovery.HostID) bool {
	return g.cfg.Border.Admit == nil || g.cfg.Border.Admit(id, true)
}

// Running reports whether another instance answers under this host's id at an
// address, which is not this one's.
func (g *Gossip) Running(at netip.AddrPort) bool {
	if at == g.trans.addr {
		return false
	}
	for range 2 { // a datagram may be lost
		if g.contacts.answers(g.cfg.Self, at) {
			return true
		}
	}
	return false
}

// SetKeys replaces the gossip keys while running: the first encrypts from now
// on, all decrypt. With the old keys still among them nothing is interrupted.
func (g *Gossip) SetKeys(keys [][]byte) error {
	for _, k := range keys {
		if err := g.keyring.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := g.keyring.UseKey(first(keys)); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	for _, old := range g.keyring.GetKeys() {
		if !contains(keys, old) {
			if err := g.keyring.RemoveKey(old); err != nil {
				return fmt.Errorf("gossip keys: %w", err)
			}
		}
	}
	return nil
}
