package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Status implements api.Service: what works and what does not, each line with
// what to do about it.
func (a *Agent) Status(ctx context.Context) (api.Status, error) {
	return statusOf(a, func(m *member) []endpoint.Altered { return m.endpoints.Altered(ctx) })
}

// lookEvery is how exactly a check knows since when it is as it is, while nobody asks.
const lookEvery = 10 * time.Second

// keepLooking makes the checks while nobody asks for them, until ctx ends.
func keepLooking(ctx context.Context, a *Agent) error {
	for pace.Sleep(ctx, lookEvery) {
		_, _ = statusOf(a, lastAltered)
	}
	return nil
}

// lastAltered is what the last look into the sandboxes found.
func lastAltered(m *member) []endpoint.Altered { return m.endpoints.Inspections.Last() }

// statusOf is Status with what altered knows of the sandboxes.
func statusOf(a *Agent, altered func(*member) []endpoint.Altered) (api.Status, error) {
	st := checked(a, altered)
	a.memory.Note(st.Checks, time.Now())
	return st, nil
}

// checked is the status without what is remembered.
func checked(a *Agent, altered func(*member) []endpoint.Altered) api.Status {
	st := api.Status{
		State: "not-a-member", Name: a.cfg.Name, Version: api.Release(), Address: a.config().Advertise.String(),
		Fabric: a.parts.Host.FabricPath(), PID: os.Getpid(), Checks: []api.Check{},
	}
	m := a.settled()
	if m == nil {
		c := api.Check{Name: "membership", State: api.CheckFail, Detail: "this host is not a member of a cluster", Hint: api.NotMember}
		if p, ok := a.pendingInit(); ok {
			c.Detail += ": an init was not finished, whose store is" + config.Store{Consul: p.Cluster.Consul}.String()
			c.Hint = "agentctl init # finishes it, when the store answers\nagentctl leave # gives it up"
		}
		st.Checks = append(st.Checks, c, diagnose.Disk(diskFacts(a.dir, nil)))
		st.Checks = append(st.Checks, diagnose.Refused(a.refused.All()), checkHistory(a), diagnose.Linux(osRelease()), a.doors.check())
		docker, checks := a.strandedDNS()
		st.Docker, st.Checks = docker, append(st.Checks, checks...)
		if a.docker != nil {
			st.Checks = append(st.Checks, a.docker.Checks()...)
		}
		return st
	}
	st.Cluster = m.host.Cluster().ID
	st.Checks = append(diagnose.Checks(m.facts(altered(m))), diagnose.Disk(diskFacts(a.dir, m)), diagnose.Refused(a.refused.All()), checkHistory(a), diagnose.Linux(osRelease()), a.doors.check())
	st.Checks = append(st.Checks, m.conflists.Check()...)
	docker, checks := m.checkDockerNames(a.docker)
	st.Docker, st.Checks = docker, append(st.Checks, checks...)
	if a.docker != nil {
		st.Checks = append(st.Checks, diagnose.Engine(a.docker.Checks(), m.dockerEndpoints())...)
	}
	start := startFacts(m, time.Now())
	st.Checks = append(st.Checks, diagnose.Start(start))
	st.State = "ok"
	if slices.ContainsFunc(st.Checks, func(c api.Check) bool { return c.State == api.CheckFail }) {
		st.State = "degraded"
	}
	if start.Starting() {
		st.State = "starting"
	}
	if m.host.ForgottenBy() != "" {
		st.State = "forgotten"
	}
	return st
}

// diskFacts says whether the files of this host can be written.
func diskFacts(dir *datadir.Dir, m *member) diagnose.DiskFacts {
	f := diagnose.DiskFacts{Dir: dir.Path()}
	if m != nil {
		f.Err = m.disks.problem()
	} else if why := dir.Writable(); why != nil {
		f.Err = why
	}
	f.Free, f.Files = dir.Free()
	return f
}

// osRelease is what uname -r prints, empty when it cannot be read.
func osRelease() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// facts are what the checks are made of.
func (m *member) facts(altered []endpoint.Altered) diagnose.Facts {
	zone, _ := m.last()
	held, lost := m.endpoints.Ports.Problems()
	return diagnose.Facts{
		Forgotten: m.host.ForgottenBy(), Homeless: m.addressGone(), View: m.directory.View(), Complete: m.snapshot().Complete,
		GossipPort: m.cfg.Ports.Gossip, Gossip: m.directory.Trouble(),
		Store: strings.TrimSpace(config.Store{Consul: m.pool.Address.Address()}.String()), StoreErr: m.pool.Networks.Healthy(), StoreLacks: m.networks.Missing(),
		Endpoints: len(m.endpoints.Planned()), Active: len(m.endpoints.Active()), Troubles: m.troubles(), Needs: m.overlay.Needs(), Altered: altered,
		Surroundings: m.overlay.Surroundings(), Neighbours: m.neighbours(),
		Names: m.nameFacts(zone), Tunnel: tunnelFacts(m), PortsHeld: held, PortsLost: lost,
	}
}

// storeName says where the store is.
func storeName(a Address) string {
	return strings.TrimSpace(config.Store{Consul: a.Address()}.String())
}

func (m *member) nameFacts(zone dns.Zone) diagnose.NameFacts {
	return diagnose.NameFacts{
		Zone: zone, Listeners: m.names.Problems(), Upstreams: m.names.Upstreams(),
		Called: m.cfg.Called(), Known: m.host.Host().Name,
		NoResolvConf: resolvers.Missing(resolvers.HostConf), NamedFiles: m.endpoints.NamedFiles(),
	}
}

// tunnelFacts are the proofs, and the networks here whose MTU cannot follow them.
func tunnelFacts(m *member) diagnose.TunnelFacts {
	f := diagnose.TunnelFacts{Proofs: m.tunnel.Proofs(), Now: time.Now()}
	for id := range m.endpoints.Active() {
		if n, ok := m.networks.Get(id); ok && n.MTU != 0 {
			f.Fixed = append(f.Fixed, diagnose.FixedMTU{Network: n.Name, MTU: n.MTU, Needs: n.MTU + plan.Overhead(m.cfg.Advertise)})
		}
	}
	slices.SortFunc(f.Fixed, func(a, b diagnose.FixedMTU) int { return strings.Compare(a.Network, b.Network) })
	return f
}

// troubles are what the kernel refuses. Of the tunnel's port it does not say who has it.
func (m *member) troubles() []overlay.Trouble {
	all := m.overlay.Troubles()
	for i, t := range all {
		if errors.Is(t.Err, overlay.ErrPortTaken) {
			all[i].Err = hostport.Held(t.Err, "for the tunnel", m.cfg.Ports.Tunnel, "udp")
		}
	}
	return all
}
