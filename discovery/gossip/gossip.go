package gossip

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	Forgotten func(by string)                                 // called once, when a member said that this host is; may be nil
	Conflict  func(other netip.AddrPort)                      // another instance runs under our id; may be nil
	DNSGrace  time.Duration                                   // from death to hidden names
	Log       *slog.Logger                                    // nil: discarded
}

// Gossip is this host as a member of the cluster. Its methods are safe for
// concurrent use.
type Gossip struct {
	cfg     Config
	log     *slog.Logger
	bridge  *logBridge
	trans   *transport
	ml      *memberlist.Memberlist
	keyring *memberlist.Keyring
	profile profile

	inbox   chan []byte   // received messages
	events  *queue        // what memberlist's callbacks saw
	kick    chan struct{} // own state changed: flush soon
	changes chan struct{}
	udp     chan []table.Packet
	saves   chan []byte
	retry   chan struct{} // a save failed
	streams chan struct{} // limits outgoing reliable messages
	work    sync.WaitGroup
	ack     atomic.Pointer[[]byte]
	refused sync.Map // discovery.HostID of forgotten hosts
	count   counters
	left    atomic.Bool
	told    atomic.Bool // Forgotten was called

	mu        sync.Mutex
	table     *table.Table
	x         *table.Exchange
	seen      uint64                               // revision that Changes was signalled for
	stored    uint64                               // revision that was handed to Save
	savedAt   time.Time                            // when it was
	savedSize int                                  // bytes of it
	nodes     map[discovery.HostID]memberlist.Node // where messages go
	verdict   map[discovery.HostID]uint64          // counts a member's ups and downs
	given     map[netip.AddrPort]struct{}          // addresses that Join was called with
	calls     map[uint64]chan []byte               // open requests
	callSeq   uint64

	// drop discards outgoing messages, for tests; nil otherwise.
	drop func(to discovery.HostID, kind table.Kind) bool
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
	g := &Gossip{cfg: cfg, log: cfg.Log, bridge: newLogBridge(cfg.Log), profile: profileOf(cfg.Profile),
		inbox: make(chan []byte, 8192), events: newQueue(), kick: make(chan struct{}, 1),
		changes: make(chan struct{}, 1), udp: make(chan []table.Packet, 64),
		saves: make(chan []byte, 1), retry: make(chan struct{}, 1), streams: make(chan struct{}, 64),
		nodes: map[discovery.HostID]memberlist.Node{}, verdict: map[discovery.HostID]uint64{},
		given: map[netip.AddrPort]struct{}{}, calls: map[uint64]chan []byte{}}
	if err := g.openTable(); err != nil {
		return nil, err
	}
	keyring, err := memberlist.NewKeyring(cfg.Keys, first(cfg.Keys))
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	g.keyring = keyring
	if g.trans, err = listen(cfg.Bind); err != nil {
		return nil, err
	}
	g.table.SetMember(time.Now(), cfg.Self, g.trans.addr, discovery.StatusAlive)
	conf := g.config()
	if adjust != nil {
		adjust(g, conf)
	}
	g.trans.start()
	if g.ml, err = memberlist.Create(conf); err != nil {
		return nil, errors.Join(fmt.Errorf("gossip: %w", err), g.trans.Shutdown())
	}
	return g, nil
}

func first(keys [][]byte) []byte {
	if len(keys) == 0 {
		return nil
	}
	return keys[0]
}

// openTable makes the table. A saved one that cannot be read is worth less
// than a running agent: it is said and left behind.
func (g *Gossip) openTable() error {
	h := g.cfg.Header
	h.Name, h.Version, h.Nonce = g.cfg.Name, g.cfg.Version, g.cfg.Nonce
	h.FormatMin, h.FormatMax = table.FormatMin, table.FormatMax
	tc := table.Config{Self: g.cfg.Self, Incarnation: g.cfg.Incarnation, Header: h,
		Endpoints: g.cfg.Endpoints, Saved: g.cfg.Saved, Grace: g.cfg.DNSGrace, Now: time.Now()}
	t, err := table.New(tc)
	if errors.Is(err, discovery.ErrMalformed) {
		g.log.Warn("saved table unreadable, starting without it", "err", err)
		tc.Saved = nil
		t, err = table.New(tc)
	}
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.table, g.x = t, table.NewExchange(t, g.profile.stretch, g.cfg.Nonce)
	for _, id := range t.ForgottenHosts() {
		g.refused.Store(id, struct{}{})
	}
	g.publishAck()
	return nil
}

// config returns memberlist's settings. Compression is off: the messages are
// small and binary, and states need one round trip at most.
func (g *Gossip) config() *memberlist.Config {
	c := g.profile.config()
	c.Name = g.cfg.Self.String()
	c.Transport = g.trans
	c.BindAddr, c.BindPort = g.trans.addr.Addr().String(), int(g.trans.addr.Port())
	c.AdvertisePort = c.BindPort
	c.Label = g.label()
	c.Keyring = g.keyring
	c.EnableCompression = false
	// A dead host is taken at another address at once: its name is its id, so
	// nobody else can have it, and a clone is told by idTaken.
	c.DeadNodeReclaimTime = 100 * time.Millisecond
	c.GossipToTheDeadTime = 60 * time.Second
	c.HandoffQueueDepth = 8192
	c.RequireNodeNames = true
	c.Logger = g.bridge.logger()
	d := &delegate{g: g, meta: meta{table.FormatMin, table.FormatMax, g.table.OwnVersion().Inc, g.cfg.Nonce}.encode()}
	c.Delegate, c.Events, c.Ping, c.Conflict, c.Alive = d, d, d, d, d
	return c
}

// label keeps the packets of two clusters apart; it is no secret.
func (g *Gossip) label() string { return hex.EncodeToString(g.cfg.Cluster[:8]) }

// Addr returns the address that the gossip port is bound to.
func (g *Gossip) Addr() netip.AddrPort { return g.trans.addr }

// View returns what is known now. It is cheap while nothing changes; its lists
// are shared and must not be written to. Equal tables give equal views.
func (g *Gossip) View() discovery.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.View()
}

// Changes returns a channel with at least one signal after each change of View.
func (g *Gossip) Changes() <-chan struct{} { return g.changes }

// Announce changes the own endpoints. View shows it when it returns; the
// members are told about 10 ms later, together with what follows.
func (g *Gossip) Announce(up []discovery.Endpoint, del []discovery.EndpointID) {
	g.update(func() { g.table.Announce(up, del) })
}

// SetHeader changes the own header, by one version if it differs afterwards.
func (g *Gossip) SetHeader(change func(h *discovery.Header)) {
	g.update(func() { g.table.SetHeader(change) })
}

// Forget drops hosts and refuses them from now on, whatever their incarnation.
// The own header's GoneHash tells the others that it was done.
func (g *Gossip) Forget(ids []discovery.HostID) {
	for _, id := range ids {
		if id != g.cfg.Self {
			g.refused.Store(id, struct{}{})
		}
	}
	g.update(func() { g.table.Forget(ids) })
}

// update runs a change of the table and tells whom it concerns.
func (g *Gossip) update(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	g.noteChanges()
	g.requestFlush()
}

func (g *Gossip) requestFlush() { poke(g.kick) }

// poke signals a channel of capacity one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// noteChanges signals a changed view; g.mu is held.
func (g *Gossip) noteChanges() {
	g.publishAck()
	if r := g.table.Revision(); r != g.seen {
		g.seen = r
		poke(g.changes)
	}
}

func (g *Gossip) publishAck() {
	b := g.x.Ack()
	g.ack.Store(&b)
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
