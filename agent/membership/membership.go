// Package membership keeps who this host is and which cluster it is a member of: on
// the disk, in the pool and for its callers. It takes dead hosts out of the
// cluster. The steps of init, join and leave are in package agent, one after the
// other.
package membership

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// Records are the hosts and the cluster in the pool.
type Records interface {
	Meta(ctx context.Context) (pool.Meta, error)
	Hosts(ctx context.Context) ([]pool.Host, error)
	Register(ctx context.Context, h pool.Host) error
	Unregister(ctx context.Context, self discovery.HostID, name string) error
	Fence(ctx context.Context, name, by string) (pool.Host, error)
	FenceLost(ctx context.Context, id discovery.HostID, name, by string) error
	FreeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error)
	// Removed is a pool.ForgottenError for a host that was taken out.
	Removed(ctx context.Context, id discovery.HostID) error
}

// Directory is the gossip.
type Directory interface {
	Join(ctx context.Context, addrs []netip.AddrPort, progress func(string)) ([]discovery.Member, error)
	View() discovery.View
	Forget(ids []discovery.HostID)
	// Reconsider drops hosts, and asks anew whether others are to be taken in.
	Reconsider(drop []discovery.HostID)
	// Running reports whether another instance answers under this host's id there.
	Running(at netip.AddrPort) bool
}

// Config is what a Membership is made of.
type Config struct {
	Dir       *datadir.Dir
	Host      datadir.Host
	Cluster   datadir.Cluster
	Nonce     uint64     // of this start
	Version   string     // of this agent
	Advertise netip.Addr // of this host, for gossip and tunnel
	// Forgotten is called once, with nothing locked, when this host is taken out of
	// the cluster.
	Forgotten func()
	Log       *slog.Logger
}

// Membership is the membership of this host in one cluster.
type Membership struct {
	cfg       Config
	records   Records
	directory Directory

	writing sync.Mutex // keeps the writes of cluster.json in order; mu is never held over one

	Hosts  *Registry // the members that the pool registers
	Clones *Clones   // other instances of this host

	mu         sync.Mutex
	cluster    datadir.Cluster
	kept       bool // on the disk
	leaving    bool
	started    time.Time
	registered []discovery.HostID // the pool's hosts; nil: not read since this agent started
	goneSaid   string             // a member says that this host was taken out

	owing   sync.Mutex         // of unfreed, on the disk and here
	unfreed []discovery.HostID // hosts whose name this one took, whose blocks are still to be freed
}

// New makes a Membership of cfg and of the list of hosts that earlier starts left
// to be freed. What asks the pool or the members may be called only after Use.
func New(cfg Config) (*Membership, error) {
	m := &Membership{cfg: cfg, cluster: cfg.Cluster, started: time.Now(), Hosts: newRegistry()}
	m.Clones = &Clones{name: cfg.Host.Name, self: cfg.Host.ID, dir: cfg.Dir.File(""), hosts: m.Hosts, told: make(chan netip.AddrPort, 1)}
	var err error
	m.unfreed, err = cfg.Dir.Unfreed()
	return m, err
}

// Use gives the Membership the pool and the gossip, which are opened with its Host
// and Cluster.
func (m *Membership) Use(r Records, d Directory) {
	m.records, m.directory = r, d
	m.Clones.records, m.Clones.directory = r, d
	if m.ForgottenBy() != "" {
		d.Forget([]discovery.HostID{m.cfg.Host.ID})
	}
}

// Host is who this host is.
func (m *Membership) Host() datadir.Host { return m.cfg.Host }

// Cluster is the cluster that this host is a member of.
func (m *Membership) Cluster() datadir.Cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster
}

// Keep puts the membership on the disk: from here on a restart resumes it.
func (m *Membership) Keep() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := m.cfg.Dir.Keep(m.cfg.Host, m.Cluster()); err != nil {
		return err
	}
	m.NoteKept()
	return nil
}

// NoteKept says that the membership is on the disk.
func (m *Membership) NoteKept() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = true
}

// Kept reports whether a restart resumes the membership.
func (m *Membership) Kept() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

// change changes what is known of the cluster, here and, once it is kept, on the
// disk.
func (m *Membership) change(do func(*datadir.Cluster) (changed bool)) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	changed := do(&m.cluster)
	now, kept := m.cluster, m.kept
	m.mu.Unlock()
	if !changed || !kept {
		return nil
	}
	return m.cfg.Dir.Write(datadir.ClusterFile, now)
}

// Forget marks this host as taken out of the cluster. What works here goes on; this
// host announces and leases nothing new.
func (m *Membership) Forget(why string) {
	first := false // the pool and the members say it again and again
	err := m.change(func(c *datadir.Cluster) bool {
		if first = c.Forgotten == ""; first {
			c.Forgotten = why
		}
		return first
	})
	if !first {
		return
	}
	if m.cfg.Forgotten != nil {
		m.cfg.Forgotten()
	}
	if m.Kept() {
		m.cfg.Log.Error("this host was taken out of the cluster", "why", why)
	}
	if err != nil {
		m.cfg.Log.Error("cannot remember that this host was taken out", "err", err)
	}
}

// Gone tells gossip which hosts were taken out, as the pool lists them. This host
// may be one.
func (m *Membership) Gone(all map[discovery.HostID]pool.GoneBy) {
	ids := make([]discovery.HostID, 0, len(all))
	for id, by := range all {
		if id == m.cfg.Host.ID {
			m.Forget("agentctl leave --force by " + by.By)
		}
		ids = append(ids, id)
	}
	m.directory.Forget(ids)
}

// ForgottenBy says who took this host out of the cluster; empty: nobody.
func (m *Membership) ForgottenBy() string { return m.Cluster().Forgotten }

// isLeaving reports whether this host gives back what it holds.
func (m *Membership) isLeaving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}

// SetLeaving notes that this host leaves, or that it stays because the leave
// failed.
func (m *Membership) SetLeaving(leaving bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = leaving
}

// Usable returns nil, or an error that says why nothing may be attached here.
func (m *Membership) Usable() error {
	if why := m.ForgottenBy(); why != "" {
		return api.Errorf(api.KindConflict, "this host was taken out of the cluster: %s", why).
			WithHint("agentctl join ADDRESS --token-file FILE --replace")
	}
	if m.isLeaving() {
		return api.Errorf(api.KindConflict, "this host is leaving the cluster").WithHint("agentctl join ADDRESS --token-file FILE # once it has left")
	}
	return nil
}

// Seeds are the hosts that the pool knows: where gossip asks when members that
// it remembers are missing.
func (m *Membership) Seeds(ctx context.Context) ([]netip.AddrPort, error) {
	out := slices.Clone(m.Cluster().Peers)
	hosts, err := m.records.Hosts(ctx)
	for _, h := range hosts {
		if h.ID != m.cfg.Host.ID {
			out = append(out, h.Gossip)
		}
	}
	return out, err
}

// Meta makes the cluster's record for the pool.
func (m *Membership) Meta() pool.Meta {
	c := m.Cluster()
	return pool.Meta{
		Schema: datadir.Schema, ClusterID: c.ID, CreatedBy: m.cfg.Host.Name, Domain: c.Domain, Pool: c.Pool,
		TunnelPort: c.TunnelPort, GossipPort: c.GossipPort, WGPort: c.WireGuardPort,
		Profile: c.Profile, StoreID: c.Store, Created: time.Now().UTC(),
	}
}

// takeMeta replaces this host's settings of the cluster by those of the cluster's
// record in the pool.
func (m *Membership) takeMeta(meta pool.Meta) error {
	return m.change(func(c *datadir.Cluster) bool { *c = WithMeta(*c, meta); return true })
}

// WithMeta returns c with the settings of the cluster's record.
func WithMeta(c datadir.Cluster, m pool.Meta) datadir.Cluster {
	c.ID, c.Domain, c.Pool, c.Profile = m.ClusterID, m.Domain, m.Pool, m.Profile
	c.TunnelPort, c.WireGuardPort = m.TunnelPort, m.WGPort
	return c
}

// SetStore notes the id of the embedded store.
func (m *Membership) SetStore(id string) error {
	return m.change(func(c *datadir.Cluster) bool { c.Store = id; return true })
}

// Record makes this host's record for the pool.
func (m *Membership) Record() pool.Host {
	h := m.cfg.Host
	return pool.Host{
		ID: h.ID, Name: h.Name, Nonce: m.cfg.Nonce, VTEP: m.cfg.Advertise,
		Gossip:  netip.AddrPortFrom(m.cfg.Advertise, m.Cluster().GossipPort),
		Version: m.cfg.Version, Incarnation: h.Incarnation, Joined: time.Now().UTC(), Machine: machineID(),
	}
}

// Unregister takes this host's record out of the pool. Of a join that failed it also
// says that the id is gone. Members that got to know it drop it then: the next try has
// another id and the same tunnel address, which two members cannot have.
func (m *Membership) Unregister(ctx context.Context) error {
	h := m.cfg.Host
	if m.Kept() {
		return m.records.Unregister(ctx, h.ID, h.Name)
	}
	if err := m.records.FenceLost(ctx, h.ID, h.Name, h.Name); err != nil {
		return err
	}
	_, _, err := m.records.FreeHeld(ctx, h.ID)
	return err
}

// machineID helps a person to tell two hosts of one name apart. The agent decides
// nothing by it.
func machineID() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
