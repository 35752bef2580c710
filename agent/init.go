package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
)

// tokenFile is where init and join leave the token, in the data directory.
const tokenFile = "join.token"

// Init implements api.Service: this host becomes the first of a new cluster.
// The store is written last, so that a failure leaves no trace there.
func (a *Agent) Init(ctx context.Context, r api.InitRequest, progress func(string)) (api.InitResult, error) {
	done, err := a.exclusively("init")
	if err != nil {
		return api.InitResult{}, err
	}
	defer done()
	if s := a.member(); s != nil {
		return api.InitResult{}, api.Errorf(api.KindConflict, "init: %s is a member of cluster %s already", s.host.Name, s.cluster.ID).
			WithHint("agentctl members\nagentctl leave # to start anew")
	}
	cluster, err := a.newCluster(r)
	if err != nil {
		return api.InitResult{}, err
	}
	finished, err := a.finishInit(ctx)
	if err != nil {
		return api.InitResult{}, api.Errorf(api.KindFailed, "init: %v", err).
			WithHint("agentctl init, when the store answers; to give the earlier one up: rm %s", a.dir.file(pendingName))
	}
	if finished {
		progress("finishing an earlier init")
		return a.resumeInit()
	}
	store := a.cfg.Store
	store.Consul, store.Prefix = cluster.Consul, cluster.Prefix
	progress("opening the store" + inWords(store))
	s, err := a.openFresh(ctx, &cluster, a.newHost())
	if err != nil {
		return api.InitResult{}, explain("init", err)
	}
	defer s.abandon()
	progress("writing the cluster's record")
	if err := a.begun(s); err != nil {
		return api.InitResult{}, explain("init", err)
	}
	if r.Adopt {
		return a.adopt(ctx, s)
	}
	if err := s.pool.Init(ctx, s.meta(), s.poolHost()); err != nil {
		a.notBegun(err)
		return api.InitResult{}, s.explain("init", err)
	}
	if err := a.commit(s); err != nil {
		return api.InitResult{}, errors.Join(explain("init", err), s.pool.Unregister(ctx, s.host.ID, s.host.Name))
	}
	return a.initResult(s)
}

// adopt takes over a cluster that every host has left. Its id is known only now,
// and gossip was opened under another one: the membership is begun anew.
func (a *Agent) adopt(ctx context.Context, s *session) (api.InitResult, error) {
	meta, err := s.pool.Adopt(ctx, s.meta(), s.poolHost())
	if err != nil {
		a.notBegun(err)
		return api.InitResult{}, s.explain("init --adopt", err)
	}
	s.cluster.take(meta)
	if err := a.keep(s.host, s.cluster); err != nil {
		return api.InitResult{}, errors.Join(explain("init --adopt", err), s.pool.Unregister(ctx, s.host.ID, s.host.Name))
	}
	s.abandon()
	s.kept = true
	return a.resumeInit()
}

// resumeInit begins the membership that an init has put on the disk.
func (a *Agent) resumeInit() (api.InitResult, error) {
	if err := a.resumeMember(); err != nil {
		return api.InitResult{}, explain("init", err)
	}
	return a.initResult(a.member())
}

// newCluster checks an init request and makes the cluster's identity.
func (a *Agent) newCluster(r api.InitRequest) (clusterFile, error) {
	c := clusterFile{
		Schema: schema, Keys: [][]byte{make([]byte, 32)},
		Consul: cmp.Or(r.Consul, a.cfg.Store.Consul), Prefix: a.cfg.Store.Prefix,
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(c.Keys[0])
	c.ID = hex.EncodeToString(id[:])
	changed := a.config()
	changed.Profile = cmp.Or(r.Profile, a.cfg.Profile)
	changed.Ports = config.Ports{
		Gossip: cmp.Or(r.GossipPort, a.cfg.Ports.Gossip),
		Tunnel: cmp.Or(r.TunnelPort, a.cfg.Ports.Tunnel),
	}
	if r.Domain != "" {
		changed.Domain = strings.ToLower(strings.Trim(r.Domain, "."))
	}
	if r.Pool != "" {
		p, err := netip.ParsePrefix(r.Pool)
		if err != nil {
			return c, api.Errorf(api.KindMisuse, "init: --pool %q is no subnet such as 10.64.0.0/10", r.Pool)
		}
		changed.Pool = p
	}
	if err := changed.Check(); err != nil {
		return c, api.Errorf(api.KindMisuse, "init: %v", err)
	}
	c.Domain, c.Pool, c.Profile = changed.Domain, changed.Pool, changed.Profile
	c.GossipPort, c.TunnelPort = changed.Ports.Gossip, changed.Ports.Tunnel
	if c.Consul != "" {
		var err error
		if err = config.CheckConsul(c.Consul); err != nil {
			return c, api.Errorf(api.KindMisuse, "init: --consul %v", err).WithHint("agentctl init --consul http://192.0.2.10:8500")
		}
		if c.CA, err = readCA(a.cfg.Store.CAFile); err != nil {
			return c, err
		}
	}
	return c, nil
}

// readCA returns the PEM of the CA that signed Consul's certificate; it travels
// in the token, so that other hosts need no file.
func readCA(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, api.Errorf(api.KindMisuse, "consul.ca_file: %v", err)
	}
	return b, nil
}

func inWords(s config.Store) string {
	if s.Consul != "" {
		return " in Consul at " + s.Consul
	}
	return " of this machine (embedded)"
}

// writeToken leaves the token of the cluster on this host, so that whichever
// members are left others can join.
func (a *Agent) writeToken(s *session) (path string, err error) {
	t := token{
		Cluster: s.cluster.ID, Key: s.cluster.Keys[0], GossipPort: s.cluster.GossipPort,
		Profile: s.cluster.Profile, Consul: s.cluster.Consul, Prefix: s.cluster.Prefix, CA: s.cluster.CA, Store: s.cluster.Store,
	}
	path = a.dir.file(tokenFile)
	return path, replaceFile(path, []byte(t.String()+"\n"), 0o600)
}

func (a *Agent) initResult(s *session) (api.InitResult, error) {
	path, err := a.writeToken(s)
	if err != nil {
		return api.InitResult{}, fmt.Errorf("init: the cluster is made, but its token is not written: %w", err)
	}
	return api.InitResult{
		Cluster: s.cluster.ID, TokenFile: path,
		Join: fmt.Sprintf("agentctl join %s --token-file %s", s.cfg.Advertise, path),
	}, nil
}
