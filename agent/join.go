package agent

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/discovery"
)

// Join implements api.Service. It returns when a member shows that it knows
// this host; a failure takes back what was registered.
func (a *Agent) Join(ctx context.Context, r api.JoinRequest, progress func(string)) (api.JoinResult, error) {
	done, err := a.exclusively("join")
	if err != nil {
		return api.JoinResult{}, err
	}
	defer done()
	t, err := parseToken(r.Token)
	if err != nil {
		return api.JoinResult{}, api.Errorf(api.KindMisuse, "join: %v", err).
			WithHint("agentctl join ADDRESS --token-file FILE # the whole file that agentctl init named")
	}
	peers, err := peerAddrs(r.Addresses, t.GossipPort)
	if err != nil {
		return api.JoinResult{}, err
	}
	if err := config.CheckConsul(r.Consul); err != nil {
		return api.JoinResult{}, api.Errorf(api.KindMisuse, "join: --consul %v", err).
			WithHint("agentctl join %s --token-file FILE --consul http://192.0.2.10:8500", r.Addresses[0])
	}
	cluster := a.tokenCluster(t, r, peers)
	if s := a.member(); s != nil {
		if s.forgottenBy() == "" || !r.Replace {
			return s.joinedAlready(t)
		}
		if err := a.dismiss(ctx, s, progress); err != nil {
			return api.JoinResult{}, s.explain("join --replace", err)
		}
	}
	progress("opening the store" + inWords(config.Store{Consul: cluster.Consul}))
	if err := a.checkMachine(cluster); err != nil {
		return api.JoinResult{}, explain("join", err)
	}
	s, err := a.openFresh(ctx, &cluster, a.newHost())
	if err != nil {
		return api.JoinResult{}, explain("join", err)
	}
	defer s.abandon()
	if err := s.enter(ctx, r.Replace, peers, progress); err != nil {
		return api.JoinResult{}, s.explain("join", err)
	}
	out := api.JoinResult{Cluster: cluster.ID}
	out.Members, err = s.meet(ctx, peers, progress)
	if err == nil {
		err = a.commit(s)
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return api.JoinResult{}, errors.Join(s.explain("join", err), s.pool.Unregister(clean, s.host.ID, s.host.Name))
	}
	s.freeReplaced(ctx, progress)
	if _, err := a.writeToken(s); err != nil {
		s.log.Warn("the token is not kept here", "err", err)
	}
	return out, nil
}

// joinedAlready makes join safe to repeat.
func (s *session) joinedAlready(t token) (api.JoinResult, error) {
	if s.forgottenBy() == "" && t.Cluster == s.cluster.ID {
		out := api.JoinResult{Cluster: s.cluster.ID}
		for _, m := range s.directory.View().Members {
			if m.ID != s.host.ID && m.Status == discovery.StatusAlive {
				out.Members = append(out.Members, m.Name)
			}
		}
		return out, nil
	}
	if why := s.forgottenBy(); why != "" {
		return api.JoinResult{}, api.Errorf(api.KindConflict, "join: %s was taken out of cluster %s: %s", s.host.Name, s.cluster.ID, why).
			WithHint("agentctl join ADDRESS --token-file FILE --replace # detaches what runs here, and joins as a new host")
	}
	return api.JoinResult{}, api.Errorf(api.KindConflict, "join: %s is a member of cluster %s", s.host.Name, s.cluster.ID).
		WithHint("agentctl leave --purge\nagentctl join ADDRESS --token-file FILE")
}

func peerAddrs(in []string, port uint16) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, s := range in {
		p, err := config.AddrPort(s, port)
		if err != nil {
			return nil, api.Errorf(api.KindMisuse, "join: %q is no address such as 192.0.2.1 or 192.0.2.1:%d", s, port)
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.KindMisuse, "join: no address of a member given").WithHint("agentctl join 192.0.2.1 --token-file FILE")
	}
	return out, nil
}

func (a *Agent) tokenCluster(t token, r api.JoinRequest, peers []netip.AddrPort) clusterFile {
	return clusterFile{
		Schema: schema, ID: t.Cluster, Keys: [][]byte{t.Key}, GossipPort: t.GossipPort, Peers: peers,
		Consul: cmp.Or(r.Consul, t.Consul), Prefix: cmp.Or(t.Prefix, a.cfg.Store.Prefix), CA: t.CA, Store: t.Store,
		// Until the store was asked; takeMeta puts in what the cluster has.
		Domain: a.cfg.Domain, Pool: a.cfg.Pool, Profile: t.Profile, TunnelPort: a.cfg.Ports.Tunnel,
	}
}

// errOtherMachine: the embedded store serves one machine.
var errOtherMachine = errors.New("the cluster uses the built-in store of another machine, which cannot be reached from here")

// checkMachine refuses a cluster whose embedded store is not on this machine,
// before an empty store of our own is made.
func (a *Agent) checkMachine(c clusterFile) error {
	if c.Consul != "" {
		return nil
	}
	file := a.storeFile()
	if a.cfg.Store.Embedded != "" {
		file = a.cfg.Store.Embedded + ".db"
	}
	if _, err := os.Stat(file); err != nil {
		return errOtherMachine
	}
	return nil
}

// enter registers this host in the pool: its name is its own from then on.
func (s *session) enter(ctx context.Context, replace bool, peers []netip.AddrPort, progress func(string)) error {
	meta, err := s.pool.Meta(ctx)
	if err != nil {
		return err
	}
	if meta.ClusterID != s.cluster.ID {
		return api.Errorf(api.KindConflict, "the token is of cluster %s, the store holds cluster %s", s.cluster.ID, meta.ClusterID)
	}
	s.takeMeta(meta)
	if replace {
		if err := s.replace(ctx, peers, progress); err != nil {
			return err
		}
	}
	progress("registering " + s.host.Name)
	return s.pool.Register(ctx, s.poolHost())
}

// meet joins the gossip, finds out whether the tunnel works, and returns the
// names of the members that show that they know us.
func (s *session) meet(ctx context.Context, peers []netip.AddrPort, progress func(string)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s.runDirectory()
	members, err := s.directory.Join(ctx, peers, progress)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.readNetworks(ctx), s.awaitHeaders(ctx)); err != nil {
		return nil, err
	}
	s.runProbes()
	s.pass(ctx)
	if err := s.checkTunnel(ctx, progress); err != nil {
		return nil, err
	}
	hosts, err := s.pool.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range hosts {
		if h.ID != s.host.ID && slices.ContainsFunc(members, func(m discovery.Member) bool { return m.ID == h.ID }) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
