package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
)

// open opens everything a member needs, and nothing that another host notices:
// the gossip port is bound, but nobody was spoken to. A failure closes what was
// opened.
func (a *Agent) open(cluster clusterFile, host hostFile, fresh bool) (s *session, err error) {
	s = &session{
		cfg: a.config(), log: a.log, cluster: cluster, host: host, nonce: a.nonce, data: a.dir,
		names: a.parts.Names, machine: a.parts.Host, probes: &prober{self: host.ID},
		conflists: newConflists(a.cfg, a.log),
		wake:      make(chan struct{}, 1), started: time.Now(), used: map[discovery.NetworkID]time.Time{}, attaching: map[discovery.EndpointID]bool{},
		stations: map[station]bool{},
	}
	cluster.overrule(&s.cfg, a.log)
	if a.docker != nil {
		s.connectors = map[string]connector{runtimeDocker: dockerConnector{s, a.docker}}
	}
	s.forgotten = cluster.Forgotten
	s.resolvers, s.bridged = map[string][]netip.Addr{}, map[discovery.EndpointID][]netip.Addr{}
	if s.unfreed, err = a.dir.unfreed(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.group, s.ctx = errgroup.WithContext(ctx)
	half := s // a return of nil and an error clears s
	s.ports = hostport.New(ctx)
	defer func() {
		if err != nil {
			half.stop()
		}
	}()
	if len(cluster.CA) > 0 && s.cfg.Store.CAFile == "" {
		s.cfg.Store.CAFile = a.dir.file("consul-ca.pem")
		if err := replaceFile(s.cfg.Store.CAFile, cluster.CA, 0o600); err != nil {
			return nil, err
		}
	}
	if s.overlay, err = a.parts.OpenOverlay(); err != nil {
		return nil, err
	}
	leasesDB, err := s.openDB(a, "leases.db")
	if err != nil {
		return nil, err
	}
	viewDB_, err := s.openDB(a, "view.db")
	if err != nil {
		return nil, err
	}
	s.view = viewDB{viewDB_}
	disk := ipam.NewDisk(leasesDB)
	if s.journal, err = openJournal(disk); err != nil {
		return nil, err
	}
	if s.docker, err = openDockerBook(disk); err != nil {
		return nil, err
	}
	s.loadNetworks()
	s.lookAsking()
	if err := s.prune(); err != nil {
		return nil, err
	}
	s.reclaimPorts() // before another program does
	if s.pool, s.store, err = a.openPool(s, fresh); err != nil {
		return nil, err
	}
	// The leases come first: gossip may hand over a member's request for an
	// address as soon as its port is bound.
	s.leases, err = a.parts.OpenLeases(ipam.Config{
		Self: host.ID, Nonce: a.nonce, Disk: disk, Pool: s.pool, Log: a.log,
		Lend: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			return s.directory.Call(ctx, to, body)
		},
		View: func() discovery.View { return s.directory.View() },
	})
	if err != nil {
		return nil, err
	}
	s.directory, err = a.parts.OpenDirectory(s.gossipConfig())
	return s, err
}

// overrule puts what all hosts share in the place of this host's configuration,
// with a warning where they differ.
func (c clusterFile) overrule(cfg *config.Config, log *slog.Logger) {
	differ := func(key string, mine, theirs any) {
		if mine != theirs {
			log.Warn("the cluster's setting wins over this host's configuration", "key", key, "cluster", theirs, "host", mine)
		}
	}
	differ("domain", cfg.Domain, c.Domain)
	differ("pool", cfg.Pool, c.Pool)
	differ("profile", cfg.Profile, c.Profile)
	differ("gossip_port", cfg.Ports.Gossip, c.GossipPort)
	differ("tunnel_port", cfg.Ports.Tunnel, c.TunnelPort)
	cfg.Domain, cfg.Pool, cfg.Profile = c.Domain, c.Pool, c.Profile
	cfg.Ports = config.Ports{Gossip: c.GossipPort, Tunnel: c.TunnelPort}
	cfg.Store.Consul, cfg.Store.Prefix = c.Consul, c.Prefix
}

// openPool opens the cluster's store. A host that becomes a member takes the
// cluster it finds there; one that is a member knows which it must be.
func (a *Agent) openPool(s *session, fresh bool) (Pool, EmbeddedStore, error) {
	cluster := s.cluster.ID
	if fresh {
		cluster = ""
	}
	return a.parts.OpenPool(s.cfg.Store, a.storeFile(), cluster)
}

func (a *Agent) storeFile() string { return filepath.Join(a.cfg.DataDir, "store.db") }

func (s *session) openDB(a *Agent, name string) (*bbolt.DB, error) {
	db, err := a.parts.OpenDB(a.dir.file(name))
	if err != nil {
		return nil, err
	}
	s.dbs = append(s.dbs, db)
	return db, nil
}

func (s *session) gossipConfig() gossip.Config {
	cfg := gossip.Config{
		Self: s.host.ID, Name: s.host.Name, Version: api.Release(),
		Incarnation: s.host.Incarnation, Nonce: s.nonce,
		Bind:    netip.AddrPortFrom(s.cfg.Advertise, s.cfg.Ports.Gossip),
		Keys:    s.cluster.Keys,
		Profile: s.cfg.Profile,
		Header:  discovery.Header{Nonce: s.nonce, Name: s.host.Name, Version: api.Release(), VTEP: s.cfg.Advertise, TunnelPort: s.cfg.Ports.Tunnel},
		Saved:   s.view.load(viewGossip),
		Save:    func(b []byte) error { return s.view.save(viewGossip, b) },
		Seeds:   s.seeds,
		Serve:   s.serve,
		Forgotten: func(by string) {
			s.forget("a member (" + by + ") says so")
		},
		Conflict: func(other netip.AddrPort) {
			s.mu.Lock()
			s.cluster.Cloned = true
			s.mu.Unlock()
			s.log.Error("another agent runs under this host's id: a copied data directory?", "addr", other)
			s.forget(fmt.Sprintf("the agent at %s has the same host id", other))
		},
		DNSGrace: s.cfg.Grace,
		Log:      s.log,
	}
	var id discovery.HostID
	if err := id.UnmarshalText([]byte(s.cluster.ID)); err == nil {
		cfg.Cluster = id
	}
	for _, l := range s.journal.all() {
		// Docker's that have not joined, or have left, nobody reaches.
		if l.Docker == nil || l.Docker.SandboxKey != "" {
			cfg.Endpoints = append(cfg.Endpoints, l.Endpoint)
		}
	}
	s.describe(&cfg.Header)
	return cfg
}

// describe fills in what may change while the agent runs: the underlay's MTU,
// what no automatic subnet may overlap, and the networks this host takes part
// in.
func (s *session) describe(h *discovery.Header) {
	if mtu, _, err := s.overlay.Underlay(s.cfg.Advertise); err == nil {
		h.MTU = uint16(min(mtu, 65535))
	}
	h.TunnelPort = s.cfg.Ports.Tunnel
	h.Avoid = s.avoid()
}

// avoid is what an automatic subnet must not overlap because of this host: its
// routes, its resolvers and what the configuration names.
func (s *session) avoid() []netip.Prefix {
	out := slices.Clone(s.cfg.Avoid)
	if routes, err := s.machine.Routes(); err == nil {
		out = append(out, routes...)
	}
	for _, a := range resolvers(s.cfg.DNS.ResolvConf) {
		if !a.IsLoopback() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out)
}

// seeds are the hosts that the pool knows: where gossip asks when members that
// it remembers are missing.
func (s *session) seeds(ctx context.Context) ([]netip.AddrPort, error) {
	hosts, err := s.pool.Hosts(ctx)
	if err != nil {
		return s.cluster.Peers, err
	}
	out := slices.Clone(s.cluster.Peers)
	for _, h := range hosts {
		if h.ID != s.host.ID {
			out = append(out, h.Gossip)
		}
	}
	return out, nil
}

// loadNetworks takes the networks of the last start, so that the kernel is
// programmed and names are answered before the pool was asked.
func (s *session) loadNetworks() {
	b := s.view.load(viewNetwork)
	if b == nil {
		return
	}
	if err := json.Unmarshal(b, &s.networks); err != nil {
		s.log.Warn("the networks of the last start cannot be read", "err", err)
	}
	s.listed = map[discovery.NetworkID]bool{}
	for _, n := range s.networks {
		s.listed[n.ID] = true
	}
}

// prune drops journaled endpoints whose sandbox went away while no agent ran.
// It happens before gossip opens: what is announced first is what runs.
func (s *session) prune() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	plugged, err := s.overlay.Attached(ctx)
	if err != nil {
		return err
	}
	for _, l := range s.journal.all() {
		// An interface lives exactly as long as its namespace, whatever became
		// of the path: a process may hold one that has no name any more.
		if l.ofHost() || l.Docker != nil || slices.Contains(plugged, l.Endpoint.ID.String()) {
			continue
		}
		gone, err := s.vanished(ctx, l)
		if err == nil && !gone {
			continue
		}
		if err != nil {
			s.log.Warn("cannot tell whether the sandbox is there, keeping the endpoint", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox, "err", err)
			continue
		}
		s.log.Info("sandbox went away while no agent ran", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox)
		if err := s.journal.remove(l.Endpoint.ID); err != nil {
			return err
		}
		s.pruned = append(s.pruned, l.Endpoint.ID)
		s.restoreResolv(l)
	}
	return nil
}
