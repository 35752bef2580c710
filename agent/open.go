package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/conflist"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/agent/watch"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/strict"
)

// opening is a member that is being opened, with what only that needs.
type opening struct {
	*member
	agent *Agent
	fresh bool // it becomes a member: the store says of which cluster
	disk  *ipam.Disk
	view  datadir.View

	journal *journal.Journal
	past    endpoint.Past
	pruned  []discovery.EndpointID // endpoints that ended while no agent ran
}

// open opens everything a member needs, and nothing that another host notices:
// the gossip port is bound, but nobody was spoken to. A failure closes what was
// opened.
func (a *Agent) open(cluster datadir.Cluster, host datadir.Host, fresh bool) (m *member, err error) {
	log := a.log
	cfg := membership.Overrule(a.config(), cluster, func(key string, theirs, mine any) {
		log.Warn("the cluster's setting wins over this host's configuration", "key", key, "cluster", theirs, "host", mine)
	})
	t := newTasks()
	o := opening{agent: a, fresh: fresh, member: &member{cfg: cfg, log: log, tasks: t, loop: newLoop(t.ctx.Done(), a.history.Emit, log),
		names: a.parts.Names, machine: machine{a.parts.Host, a.parts.Within, &neighbourWatch{read: a.parts.Host.Neighbours}}, conflists: conflist.New(cfg.ConflistDir(), cfg.Socket(), log)}}
	defer func() {
		if err != nil {
			o.undo()
		}
	}()
	for _, step := range []func(*opening, datadir.Host, datadir.Cluster) error{
		(*opening).openHost, (*opening).openDisk, (*opening).openStore, (*opening).openEndpoints, (*opening).openCluster,
	} {
		if err := step(&o, host, cluster); err != nil {
			return nil, err
		}
	}
	return o.member, nil
}

// undo closes what was opened, however far that came.
func (o *opening) undo() {
	if o.endpoints != nil {
		o.stop()
		return
	}
	o.cancel()
	_ = o.tasks.wait() // the store's, if it runs: it has ended with its file closed
	o.close()
}

// openHost opens what this host is by itself: its place in the cluster, its kernel.
func (o *opening) openHost(host datadir.Host, cluster datadir.Cluster) (err error) {
	if len(cluster.CA) > 0 && o.cfg.Store.CAFile == "" {
		if o.cfg.Store.CAFile, err = writeCA(o.agent.dir, o.cfg.RunDir, cluster.CA); err != nil {
			return err
		}
	}
	o.host, err = membership.New(membership.Config{
		Dir: o.agent.dir, Host: host, Cluster: cluster, Nonce: o.agent.nonce, Version: api.Release(),
		Advertise: o.cfg.Advertise, Forgotten: o.forgo, Log: o.log,
	})
	if err != nil {
		return err
	}
	o.overlay, err = o.agent.parts.OpenOverlay(repairs(o.events, host.Name))
	return err
}

// writeCA writes the certificate of Consul's CA where the store's client reads it: into the
// run directory when the data directory takes nothing.
func writeCA(dir *datadir.Dir, runDir string, pem []byte) (path string, err error) {
	path = dir.File(datadir.CAFile)
	if there, _ := os.ReadFile(path); bytes.Equal(there, pem) {
		return path, nil
	}
	err = datadir.ReplaceFile(path, pem, 0o600)
	if _, full := errors.AsType[*boltfile.WriteError](err); full {
		path = filepath.Join(runDir, datadir.CAFile)
		err = datadir.ReplaceFile(path, pem, 0o600)
	}
	return path, err
}

// openDisk reads what earlier starts left. A file that is damaged or lost stops
// nothing: what it said is in the kernel, the pool and the other file.
func (o *opening) openDisk(datadir.Host, datadir.Cluster) error {
	o.disks.dir, o.disks.run = o.agent.dir, o.cfg.RunDir
	if why := o.agent.dir.Writable(); o.fresh && why != nil {
		return why
	}
	missing := !o.fresh && isMissing(o.agent.dir.File(datadir.LeasesDB))
	leases, damage, err := o.openDB(datadir.LeasesDB, boltfile.All)
	if err != nil {
		return err
	}
	o.past = endpoint.Past{Lost: missing || damage != nil, Fresh: o.fresh, Refuse: o.refuse}
	if missing {
		o.refuse(leases.Path(), errors.New("it is missing or empty: begun anew from the kernel and the pool"), "")
	}
	view, _, err := o.openDB(datadir.ViewDB, boltfile.None)
	if err != nil {
		o.refuse(o.agent.dir.File(datadir.ViewDB), err, "")
	}
	o.disk, o.view = ipam.NewDisk(leases), datadir.View{DB: view, Refuse: o.refuseRecord}
	o.disks.leases, o.disks.view = o.disk, o.view
	o.journal, err = journal.Open(o.disk, func(source string, why error) {
		o.past.Lost = true
		o.refuseRecord(source, why)
	})
	if err != nil {
		return err
	}
	if o.book, err = book.Open(o.disk, o.refuseRecord); err != nil {
		return err
	}
	o.past.Leased = ipam.Owners(o.disk)
	if !o.fresh {
		o.past.Backup = o.disks.copies(o.refuseRecord)
	}
	return nil
}

// refuse notes what a file of the data directory does not say, or says wrongly.
func (o *opening) refuse(source string, why error, hint string) {
	o.agent.refuseFile(source, why, hint)
}

func (o *opening) refuseRecord(source string, why error) { o.refuse(source, why, "") }

// openDB opens a database file, or a new one when that is damaged.
func (o *opening) openDB(name string, keep boltfile.Keep) (*boltfile.DB, *boltfile.Damage, error) {
	db, damage, err := o.agent.parts.OpenDB(o.agent.dir.File(name), keep)
	if damage != nil {
		o.agent.refused.Add(strict.Files, ofDamage(*damage, fmt.Sprintf("%d of its records could be kept", damage.Records)))
	}
	if err == nil {
		o.disks.all = append(o.disks.all, db)
	}
	return db, damage, err
}

// ofDamage says what was wrong with a database file, and what became of it.
func ofDamage(d boltfile.Damage, then string) strict.Refused {
	if d.Aside == "" {
		return strict.Refused{Source: d.File, Why: fmt.Sprintf("it is damaged (%s), and cannot be put aside; %s", d.Why, then)}
	}
	return strict.Refused{Source: d.File, Why: fmt.Sprintf("it was damaged (%s) and put aside; %s", d.Why, then),
		Hint: fmt.Sprintf("rm %s # when nobody needs it any more", d.Aside)}
}

// openEndpoints takes over what runs here. Networks are known from the disk.
func (o *opening) openEndpoints(host datadir.Host, cluster datadir.Cluster) (err error) {
	o.resolvers = resolvers.New(resolvers.Config{ResolvConf: o.cfg.DNS.ResolvConf, Address: addressOf(o.cfg), Changed: o.Poke})
	o.networks = networks.New(networks.Config{
		Store: o.pool.Networks, Saved: o.view.Load(datadir.ViewNetworks),
		Save:     func(b []byte) error { return o.view.Save(datadir.ViewNetworks, b) },
		Underlay: o.underlay, Changed: o.Poke, Log: o.log,
	})
	o.endpoints = endpoint.New(endpoint.Config{
		Host: endpoint.Host{
			ID: host.ID, Name: host.Name, Cluster: cluster.ID, VTEP: o.cfg.Advertise, Domain: o.cfg.Domain,
			Fabric: o.machine.FabricPath(), Boot: o.machine.BootID,
			Search: o.resolvers.Search,
			Files:  resolvers.NewFiles(o.cfg.DataDir), Resolvers: o.resolvers,
		},
		Journal: o.journal, Ports: hostport.New(o.ctx), Kernel: o.overlay,
		Cluster: around{o.loop, o.member, o.networks}, Past: o.past, Events: o.events, Log: o.log,
	})
	o.disks.journal = o.journal
	ctx, cancel := context.WithTimeout(o.ctx, 10*time.Second)
	defer cancel()
	o.pruned, err = o.endpoints.Resume(ctx)
	return err
}

// addressOf says when 169.254.53.53 is an address of this host.
func addressOf(cfg config.Config) func() bool {
	switch cfg.DNS.Address {
	case config.AddressOn:
		return func() bool { return true }
	case config.AddressAuto:
		return func() bool { return listed(cfg.Docker.DaemonJSON) }
	}
	return nil
}

// listed reports whether a daemon.json sends containers to our address.
func listed(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	servers, err := setup.Servers(text)
	return err == nil && slices.Contains(servers, setup.Address)
}

// openStore opens the cluster's store. A host that becomes a member takes the
// cluster it finds there; one that is a member knows which it must be.
func (o *opening) openStore(_ datadir.Host, cluster datadir.Cluster) (err error) {
	id := cluster.ID
	if o.fresh {
		id = ""
	}
	if o.pool, o.store, err = o.agent.parts.OpenPool(o.cfg.Store, o.agent.storeFile(), id, o.agent.refused); err != nil || o.store == nil {
		return err
	}
	if o.fresh {
		o.start("store", o.store.Run)
		return nil
	}
	o.start("store", o.keepStore)
	return nil
}

func (a *Agent) storeFile() string { return filepath.Join(a.cfg.DataDir, datadir.StoreDB) }

// openCluster opens the parts that speak with other members.
func (o *opening) openCluster(host datadir.Host, _ datadir.Cluster) (err error) {
	o.tunnel = tunnel.New(tunnel.Config{
		Self: host.ID, Name: host.Name, VTEP: o.cfg.Advertise, Port: o.cfg.Ports.Tunnel, Log: o.log,
		Open:     func() (tunnel.Socket, error) { return o.overlay.OpenProbe(discovery.ProbeVNI) },
		OpenBulk: func() (tunnel.Bulk, error) { return o.overlay.OpenBulk(discovery.ProbeVNI) },
		Tap: func() (tunnel.Tap, error) {
			return o.overlay.OpenTap(!o.cfg.Advertise.Is4(), o.cfg.Ports.Tunnel, discovery.ProbeVNI)
		},
		View: func() discovery.View { return o.directory.View() },
		Call: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			return o.directory.Call(ctx, to, body)
		},
		Changed: func() { o.directory.SetHeader(o.describe) },
		Events:  o.events,
	})
	// The leases come first: gossip may hand over a member's request for an
	// address as soon as its port is bound.
	o.leases, err = o.agent.parts.OpenLeases(ipam.Config{
		Self: host.ID, Nonce: o.agent.nonce, Disk: o.disk, Pool: o.pool.Blocks, Log: o.log,
		Lend: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			return o.directory.Call(ctx, to, body)
		},
		View:    func() discovery.View { return o.directory.View() },
		Running: running(o.journal), Refuse: o.refuseRecord, Noted: o.noteLease,
	})
	if err != nil {
		return err
	}
	if err := o.host.Hosts.Restore(o.view.Load(datadir.ViewHosts), func(b []byte) error { return o.view.Save(datadir.ViewHosts, b) }); err != nil {
		o.log.Warn("the hosts of the last start cannot be read", "err", err)
	}
	if o.directory, err = o.agent.parts.OpenDirectory(o.gossip()); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = hostport.Held(err, "for gossip", o.cfg.Ports.Gossip, "tcp", "udp")
		}
		return err
	}
	o.host.Use(o.pool.Records, o.directory)
	o.endpoints.Use(o.leases, o.directory)
	o.deletions = &networks.Deletions{Registry: o.networks, Store: o.pool.Networks, Holders: o.pool.Holders, Users: o.endpoints,
		Leases: o.leases, View: o.directory.View, Self: host.Name, Events: o.events, Log: o.log}
	o.loop.disputes = &networks.Disputes{Pool: o.pool.Holders, Nets: o.networks.Get, Own: o.leases.Holds, Self: host.ID,
		Tell: o.directory.SetHolder,
		Save: func(b []byte) error { return o.view.Save(datadir.ViewHolders, b) }, Log: o.log}
	o.loop.disputes.Open(o.view.Load(datadir.ViewHolders))
	o.book.Use(book.Config{Disk: o.disk, Journal: o.journal, Networks: o.networks, Maker: o.maker(), Endpoints: o.endpoints, Leases: o.leases,
		Resolvers: o.resolvers, Explain: o.explain, Log: o.log})
	o.loop.from = o.sources()
	o.loop.from.seen = (&watch.Watcher{Sink: o.events, Network: o.networks.NameOf}).See
	o.loop.from.refused = func(now []strict.Refused) { o.agent.refused.Set(strict.Gossip, now) }
	o.endpoints.FreeOrphans(o.ctx, func(n discovery.NetworkID, owner discovery.EndpointID) bool {
		return o.book.Serves(n) && !slices.Contains(o.pruned, owner)
	})
	return nil
}

// running are the addresses of this host's endpoints.
func running(j *journal.Journal) (out []ipam.Owned) {
	for _, l := range j.All() {
		for _, a := range l.Addrs {
			out = append(out, ipam.Owned{Lease: ipam.Lease{Addr: a, Seq: l.Endpoint.Seq}, Network: l.Endpoint.Network, Owner: l.Endpoint.ID})
		}
	}
	return out
}

func (o *opening) gossip() gossip.Config {
	host, cluster := o.host.Host(), o.host.Cluster()
	cfg := gossip.Config{
		Self: host.ID, Name: host.Name, Version: api.Release(),
		Incarnation: host.Incarnation, Nonce: o.agent.nonce,
		Bind:      netip.AddrPortFrom(o.cfg.Advertise, o.cfg.Ports.Gossip),
		Keys:      cluster.Keys,
		Profile:   o.cfg.Profile,
		Header:    discovery.Header{Nonce: o.agent.nonce, Name: host.Name, Version: api.Release(), VTEP: o.cfg.Advertise, TunnelPort: o.cfg.Ports.Tunnel},
		Saved:     o.view.Load(datadir.ViewGossip),
		Save:      func(b []byte) error { return o.view.Save(datadir.ViewGossip, b) },
		Seeds:     o.host.Seeds,
		Serve:     o.answer,
		Forgotten: o.host.GoneSaid,
		Conflict:  o.host.Clones.Conflict,
		Border:    gossip.Border{Admit: o.host.Hosts.Admits, Most: o.cfg.Limits.MemberEndpoints},
		DNSGrace:  o.cfg.DNS.Grace,
		Log:       o.log,
	}
	var id discovery.HostID
	if err := id.UnmarshalText([]byte(cluster.ID)); err == nil {
		cfg.Cluster = id
	}
	for _, l := range o.journal.All() {
		// Docker's that have not joined, or have left, nobody reaches.
		if l.Docker == nil || l.Docker.SandboxKey != "" {
			cfg.Endpoints = append(cfg.Endpoints, l.Announced())
		}
	}
	o.describe(&cfg.Header)
	return cfg
}

// answer answers other members' Calls: a person's questions, about probes, about
// addresses.
func (o *opening) answer(from discovery.HostID, body []byte) []byte {
	if reply, ok := o.agent.peers.Serve(from, body); ok {
		return reply
	}
	if reply, ok := o.tunnel.Serve(from, body); ok {
		return reply
	}
	return o.leases.Serve(from, body)
}

// sources are what the loop reads.
func (m *member) sources() sources {
	cluster := m.host.Cluster().ID
	return sources{
		view: m.directory.View, networks: m.networks.ByVNI, heard: m.host.AllHeard, hosts: m.host.Hosts.Registered, blocks: m.leases.Blocks,
		own: func() plan.Own {
			return plan.Own{Cluster: cluster, Locals: m.endpoints.Planned(), Active: m.endpoints.Active(), Resolvers: m.resolvers.State()}
		},
		settings: settings(m.cfg), header: m.directory.SetHeader, set: m.overlay.Set, names: m.names.Set,
		changes: [2]<-chan struct{}{m.directory.Changes(), m.leases.Changes()},
	}
}
