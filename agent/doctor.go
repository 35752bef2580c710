package agent

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/environment"
	"github.com/weft-net/weft/agent/environment/survey"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/discovery"
)

// doctorWait is how long the store and a member may take to answer doctor.
const doctorWait = 3 * time.Second

// programs are those that the agent calls.
var programs = [][2]string{{"nft", "all packet filter rules"}, {"iptables", "letting packets pass the filters of Docker and others"}}

// Doctor implements api.Service. Beside what status knows already it looks and asks.
func (a service) Doctor(ctx context.Context) ([]api.Finding, error) {
	st, err := a.Status(ctx)
	if err != nil {
		return nil, err
	}
	return append(api.Findings(st), surveyor{a}.environment(ctx, a.member())...), nil
}

// surveyor looks at what surrounds the agent.
type surveyor struct{ service }

// environment judges what surrounds the agent. m is nil while the host is no member.
func (a surveyor) environment(ctx context.Context, m *member) []api.Finding {
	cfg := a.config()
	if m != nil {
		cfg = m.cfg
	}
	f := environment.Facts{Host: cfg.Name, Conntrack: survey.Conntrack(), Uplink: survey.Uplink(cfg.Advertise),
		Space: survey.Dirs(cfg.DataDir, cfg.RunDir)}
	active := false
	if m != nil {
		f.Carried = len(m.endpoints.Active())
		active = f.Carried > 0
		f.Ways = survey.Ways(addresses(m), cfg.Ports.Tunnel)
		for _, o := range m.directory.View().Members {
			if o.Status == discovery.StatusAlive {
				f.Releases = append(f.Releases, environment.Release{Host: o.Name, Version: cmp.Or(o.Version, "unknown")})
			}
		}
	}
	self := os.Getpid()
	f.Ports = []environment.Port{
		survey.Port("for gossip", "tcp", cfg.Ports.Gossip, self, m != nil), survey.Port("for gossip", "udp", cfg.Ports.Gossip, self, m != nil),
		survey.TunnelPort(cfg.Ports.Tunnel, active),
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.Firewall, f.Programs = survey.Firewall(ctx, "weft"), survey.Programs(ctx, programs) })
	wg.Go(func() { f.Resolvers = survey.Resolvers(ctx, a.upstreams()) })
	if m != nil {
		wg.Go(func() { f.Clocks = clocks(ctx, m) })
		wg.Go(func() { f.Store = askStore(ctx, m) })
	}
	wg.Wait()
	all := environment.Checks(f)
	a.noteSince(all)
	return all
}

// upstreams are the resolvers that are asked for other names.
func (a surveyor) upstreams() (out []netip.AddrPort) {
	for _, u := range a.parts.Names.Upstreams().Servers {
		out = append(out, u.Addr)
	}
	if len(out) == 0 {
		out = survey.HostResolvers(cmp.Or(a.cfg.DNS.ResolvConf, resolvers.HostConf))
	}
	return out
}

// noteSince has the findings say since when they are so, as far as doctor was asked.
func (a surveyor) noteSince(all []api.Finding) {
	checks := make([]api.Check, len(all))
	for i, f := range all {
		checks[i] = api.Check{Name: f.ID + " " + f.Subject, State: f.State}
	}
	a.surveyed.Note(checks, time.Now())
	for i, c := range checks {
		all[i].Since = c.Since
	}
}

// addresses are those of the other members that run.
func addresses(m *member) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	running, _ := others(m)
	for _, o := range running {
		if o.Header.VTEP.IsValid() {
			out[o.Name] = o.Header.VTEP
		}
	}
	return out
}

// askStore reads from the store, and measures.
func askStore(ctx context.Context, m *member) *environment.Store {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	began := time.Now()
	_, err := m.pool.Records.Hosts(ctx)
	stats := m.pool.Stats()
	return &environment.Store{Where: storeName(m.pool.Address), Took: time.Since(began), Err: err, Requests: stats.Requests, Failed: stats.Errors}
}

// clock is what a member's clock shows.
type clock struct {
	Now time.Time `json:"now"`
}

// clockFor answers a member's question.
func clockFor(context.Context, discovery.HostID, struct{}) (clock, error) {
	return clock{time.Now()}, nil
}

// clocks asks every member that runs what its clock shows. Half of the time that the
// answer took is how wrong the comparison may be.
func clocks(ctx context.Context, m *member) []environment.Clock {
	running, _ := others(m)
	out := make([]environment.Clock, len(running))
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	var wg sync.WaitGroup
	for i, o := range running {
		wg.Go(func() {
			began := time.Now()
			c, err := peers.Ask[clock](ctx, m.directory.Call, o.ID, "clock", struct{}{})
			half := time.Since(began) / 2
			if err != nil {
				out[i] = environment.Clock{Host: o.Name, Err: errors.New(unasked(o, err).Why)}
				return
			}
			out[i] = environment.Clock{Host: o.Name, Ahead: c.Now.Sub(began.Add(half)), Within: half}
		})
	}
	wg.Wait()
	return out
}
