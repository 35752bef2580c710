package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// tokenFile is where init leaves the token, in the data directory.
const tokenFile = "join.token"

// Init implements api.Service: this host becomes the first of a new cluster.
// The store is written last, so that a failure leaves no trace there.
func (a *Agent) Init(ctx context.Context, r api.InitRequest, progress func(string)) (api.InitResult, error) {
	a.change.Lock()
	defer a.change.Unlock()
	if s := a.member(); s != nil {
		return api.InitResult{}, api.Errorf(api.KindConflict, "init: %s is a member of cluster %s already", s.host.Name, s.cluster.ID).
			WithHint("agentctl members; to start anew: agentctl leave")
	}
	cluster, err := a.newCluster(r)
	if err != nil {
		return api.InitResult{}, err
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
	if r.Adopt {
		meta, err := s.pool.Adopt(ctx, s.meta(), s.poolHost())
		if err != nil {
			return api.InitResult{}, s.explain("init --adopt", err)
		}
		s.takeMeta(meta)
	} else if err := s.pool.Init(ctx, s.meta(), s.poolHost()); err != nil {
		return api.InitResult{}, s.explain("init", err)
	}
	if err := a.commit(s); err != nil {
		return api.InitResult{}, errors.Join(explain("init", err), s.pool.Unregister(ctx, s.host.ID, s.host.Name))
	}
	return a.initResult(s)
}

// newCluster checks an init request and makes the cluster's identity.
func (a *Agent) newCluster(r api.InitRequest) (clusterFile, error) {
	c := clusterFile{
		Schema: schema, Keys: [][]byte{make([]byte, 32)}, Domain: a.cfg.Domain, Pool: a.cfg.Pool, Profile: a.cfg.Profile,
		GossipPort: a.cfg.Ports.Gossip, TunnelPort: a.cfg.Ports.Tunnel,
		Consul: or(r.Consul, a.cfg.Store.Consul), Prefix: a.cfg.Store.Prefix,
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(c.Keys[0])
	c.ID = hex.EncodeToString(id[:])
	changed := a.cfg
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
	c.Domain, c.Pool = changed.Domain, changed.Pool
	if c.Consul != "" {
		var err error
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

func inWords(s StoreConfig) string {
	if s.Consul != "" {
		return " in Consul at " + s.Consul
	}
	return " of this machine (embedded)"
}

// openFresh opens a session for a host that is not a member yet, with the
// embedded store running when it is the cluster's.
func (a *Agent) openFresh(ctx context.Context, cluster *clusterFile, host hostFile) (*session, error) {
	// What an earlier membership left must not be taken for this one's.
	if err := a.dir.remove("leases.db", "view.db"); err != nil {
		return nil, err
	}
	s, err := a.open(*cluster, host, true)
	if err != nil {
		_ = a.dir.remove("leases.db", "view.db")
		return nil, err
	}
	if s.store == nil {
		return s, nil
	}
	s.runStore()
	id, err := s.awaitStore(ctx)
	if err == nil && cluster.Store != "" && cluster.Store != id {
		err = errOtherMachine
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	cluster.Store, s.cluster.Store = id, id
	return s, nil
}

// awaitStore waits until the embedded store answers: its file's lock may still
// be on its way to this agent, or to another one of this machine.
func (s *session) awaitStore(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		if id, err = s.store.ID(ctx); err == nil {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-s.ctx.Done():
			return "", errors.Join(err, s.group.Wait())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// commit makes the membership last: from here on a restart resumes it.
func (a *Agent) commit(s *session) error {
	if err := a.dir.write("host.json", s.host); err != nil {
		return err
	}
	if err := a.dir.write("cluster.json", s.cluster); err != nil {
		return err
	}
	s.kept = true
	a.begin(s)
	return nil
}

// abandon closes a session that did not become the agent's; after commit it
// does nothing.
func (s *session) abandon() {
	if s.kept {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.directoryRuns {
		// Members that got to know this host must not wait for it.
		if err := s.directory.Leave(ctx); err != nil {
			s.log.Warn("the members were not told", "err", err)
		}
	}
	s.halt()
	if err := s.overlay.Clean(ctx); err != nil {
		s.log.Warn("the kernel is not as before", "err", err)
	}
	s.close()
	_ = s.data.remove("leases.db", "view.db", "consul-ca.pem")
}

func (a *Agent) initResult(s *session) (api.InitResult, error) {
	t := token{
		Cluster: s.cluster.ID, Key: s.cluster.Keys[0], GossipPort: s.cluster.GossipPort,
		Profile: s.cluster.Profile, Consul: s.cluster.Consul, Prefix: s.cluster.Prefix, CA: s.cluster.CA, Store: s.cluster.Store,
	}
	path := a.dir.file(tokenFile)
	if err := replaceFile(path, []byte(t.String()+"\n"), 0o600); err != nil {
		return api.InitResult{}, fmt.Errorf("init: the cluster is made, but its token is not written: %w", err)
	}
	return api.InitResult{
		Cluster: s.cluster.ID, TokenFile: path,
		Join: fmt.Sprintf("agentctl join %s --token-file %s", s.cfg.Advertise, path),
	}, nil
}

// Join implements api.Service. It returns when a member shows that it knows
// this host; a failure takes back what was registered.
func (a *Agent) Join(ctx context.Context, r api.JoinRequest, progress func(string)) (api.JoinResult, error) {
	a.change.Lock()
	defer a.change.Unlock()
	t, err := parseToken(r.Token)
	if err != nil {
		return api.JoinResult{}, api.Errorf(api.KindMisuse, "join: %v", err).
			WithHint("copy the whole file that agentctl init named, mode 0600")
	}
	if s := a.member(); s != nil {
		return s.joinedAlready(t)
	}
	peers, err := peerAddrs(r.Addresses, t.GossipPort)
	if err != nil {
		return api.JoinResult{}, err
	}
	cluster := a.tokenCluster(t, r, peers)
	progress("opening the store" + inWords(StoreConfig{Consul: cluster.Consul}))
	if err := a.checkMachine(cluster); err != nil {
		return api.JoinResult{}, explain("join", err)
	}
	s, err := a.openFresh(ctx, &cluster, a.newHost())
	if err != nil {
		return api.JoinResult{}, explain("join", err)
	}
	defer s.abandon()
	if err := s.enter(ctx, r.Replace, progress); err != nil {
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
	return api.JoinResult{}, api.Errorf(api.KindConflict, "join: %s is a member of cluster %s", s.host.Name, s.cluster.ID).
		WithHint("agentctl leave --purge, then join again")
}

func peerAddrs(in []string, port uint16) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, s := range in {
		p, err := addrPort(s, port)
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
		Consul: or(r.Consul, t.Consul), Prefix: or(t.Prefix, a.cfg.Store.Prefix), CA: t.CA, Store: t.Store,
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
func (s *session) enter(ctx context.Context, replace bool, progress func(string)) error {
	meta, err := s.pool.Meta(ctx)
	if err != nil {
		return err
	}
	if meta.ClusterID != s.cluster.ID {
		return api.Errorf(api.KindConflict, "the token is of cluster %s, the store holds cluster %s", s.cluster.ID, meta.ClusterID)
	}
	s.takeMeta(meta)
	if replace {
		if err := s.replace(ctx, progress); err != nil {
			return err
		}
	}
	progress("registering " + s.host.Name)
	return s.pool.Register(ctx, s.poolHost())
}

// replace fences the dead host whose name this one takes.
func (s *session) replace(ctx context.Context, progress func(string)) error {
	hosts, err := s.pool.Hosts(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Name != s.host.Name {
			continue
		}
		if gossipAnswers(h.Gossip) {
			return api.Errorf(api.KindConflict, "host %s is alive at %s: its name cannot be taken", h.Name, h.Gossip.Addr()).
				WithHint("choose another name: agentd --name")
		}
		progress("fencing the host that had the name " + h.Name)
		_, err := s.pool.Fence(ctx, h.Name, s.host.Name)
		return err
	}
	return nil
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
	if err := s.awaitHeaders(ctx); err != nil {
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

// meta is the cluster's record in the pool.
func (s *session) meta() pool.Meta {
	return pool.Meta{
		Schema: schema, ClusterID: s.cluster.ID, CreatedBy: s.host.Name, Domain: s.cluster.Domain, Pool: s.cluster.Pool,
		TunnelPort: s.cluster.TunnelPort, GossipPort: s.cluster.GossipPort, WGPort: s.cfg.Ports.WireGuard,
		Profile: s.cluster.Profile, StoreID: s.cluster.Store, Created: time.Now().UTC(),
	}
}

// takeMeta lets the cluster's record win over this host's configuration.
func (s *session) takeMeta(m pool.Meta) {
	s.cluster.ID, s.cluster.Domain, s.cluster.Pool, s.cluster.Profile = m.ClusterID, m.Domain, m.Pool, m.Profile
	s.cluster.TunnelPort = m.TunnelPort
	s.cfg.adopt(s.cluster, s.log)
}

// poolHost is this host's record in the pool.
func (s *session) poolHost() pool.Host {
	return pool.Host{
		ID: s.host.ID, Name: s.host.Name, Nonce: s.nonce, VTEP: s.cfg.Advertise,
		Gossip:  netip.AddrPortFrom(s.cfg.Advertise, s.cfg.Ports.Gossip),
		Version: Version, Incarnation: s.host.Incarnation, Joined: time.Now().UTC(), Machine: machineID(),
	}
}

// machineID helps a person to tell two hosts of one name apart; nothing is
// decided by it.
func machineID() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
