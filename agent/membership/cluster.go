package membership

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery/boltfile"
)

// NewHost makes an identity for a host that becomes a member.
func NewHost(name string) datadir.Host {
	h := datadir.Host{Schema: datadir.Schema, Name: name, Incarnation: 1}
	_, _ = rand.Read(h.ID[:])
	return h
}

// NextStart reads who this host is and counts this start, so that what it says
// from now on is newer than anything it ever said. unwritten is why a directory did not
// take the count: then the clock keeps it above that of earlier starts, and below that of
// later ones. last is the count of the start before in this process; 0: there was none.
func NextStart(d *datadir.Dir, last uint64) (h datadir.Host, unwritten *boltfile.WriteError, err error) {
	if err := d.Read(datadir.HostFile, &h); err != nil {
		return datadir.Host{}, nil, err
	}
	h.Incarnation = max(h.Incarnation+1, last+1, uint64(max(time.Now().UnixMilli(), 0)))
	err = d.Write(datadir.HostFile, h)
	if unwritten, ok := errors.AsType[*boltfile.WriteError](err); ok {
		return h, unwritten, nil
	}
	return h, nil, err
}

// NewCluster checks an init request and makes the cluster's identity.
func NewCluster(r api.InitRequest, cfg config.Config) (datadir.Cluster, error) {
	c := datadir.Cluster{
		Schema: datadir.Schema, Keys: [][]byte{make([]byte, 32)},
		Consul: cmp.Or(r.Consul, cfg.Store.Consul), ConfiguredConsul: cfg.Store.Consul, Prefix: cfg.Store.Prefix,
	}
	var err error
	if c.Consul, err = config.Consul(c.Consul); err != nil {
		return c, api.Errorf(api.KindMisuse, "init: --consul %v", err).WithHint("agentctl init --consul http://192.0.2.10:8500")
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(c.Keys[0])
	c.ID = hex.EncodeToString(id[:])
	cfg.Profile = cmp.Or(r.Profile, cfg.Profile)
	cfg.Ports = config.Ports{
		Gossip: cmp.Or(r.GossipPort, cfg.Ports.Gossip),
		Tunnel: cmp.Or(r.TunnelPort, cfg.Ports.Tunnel),
	}
	if r.Domain != "" {
		cfg.Domain = strings.ToLower(strings.Trim(r.Domain, "."))
	}
	if othersBelow(cfg.Domain) {
		return c, api.Errorf(api.KindMisuse, "init: --domain %s: names of others stand below it, and none of them would be found", cfg.Domain).
			WithHint("agentctl init --domain weft.internal # or one of your own")
	}
	if r.Pool != "" {
		p, err := netip.ParsePrefix(r.Pool)
		if err != nil {
			return c, api.Errorf(api.KindMisuse, "init: --pool %q is no subnet such as 10.64.0.0/10", r.Pool)
		}
		cfg.Pool = p
	}
	if err := cfg.Check(); err != nil {
		return c, api.Errorf(api.KindMisuse, "init: %v", err)
	}
	c.Domain, c.Pool, c.Profile = cfg.Domain, cfg.Pool, cfg.Profile
	c.GossipPort, c.TunnelPort = cfg.Ports.Gossip, cfg.Ports.Tunnel
	if c.Consul == "" {
		return c, nil
	}
	c.CA, err = readCA(cfg.Store.CAFile)
	return c, err
}

// othersBelow reports whether anybody may register names below a domain, as below com
// and co.uk. Nothing that ends with the cluster's domain is ever asked upstream.
func othersBelow(domain string) bool {
	suffix, registry := publicsuffix.PublicSuffix(domain)
	return suffix == domain && (registry || strings.Contains(suffix, "."))
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

// TokenCluster is the cluster that a token lets this host into, with what the token
// says. Enter adds what the pool says.
func TokenCluster(t datadir.Token, r api.JoinRequest, peers []netip.AddrPort, cfg config.Config) datadir.Cluster {
	c := datadir.Cluster{
		Schema: datadir.Schema, ID: t.Cluster, Keys: [][]byte{t.Key}, GossipPort: t.GossipPort, Peers: peers,
		Consul: cmp.Or(t.Consul, r.Consul), ConfiguredConsul: cfg.Store.Consul, Prefix: cmp.Or(t.Prefix, cfg.Store.Prefix), CA: t.CA, Store: t.Store,
		Domain: cfg.Domain, Pool: cfg.Pool, Profile: t.Profile, TunnelPort: cfg.Ports.Tunnel,
	}
	if own := cmp.Or(r.Consul, cfg.Store.Consul); own != c.Consul {
		c.OwnConsul = own
	}
	return c
}

// readPeers reads the addresses of members that join is given.
func readPeers(in []string, port uint16) ([]netip.AddrPort, error) {
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

// WriteToken writes the cluster's token to this host's disk and returns the file's
// path. Every member does so: a host can join whichever members are left.
func (m *Membership) WriteToken() (path string, err error) {
	c := m.Cluster()
	t := datadir.Token{
		Cluster: c.ID, Key: c.Keys[0], GossipPort: c.GossipPort,
		Profile: c.Profile, Consul: c.Consul, Prefix: c.Prefix, CA: c.CA, Store: c.Store,
	}
	path = m.cfg.Dir.File(datadir.TokenFile)
	return path, datadir.ReplaceFile(path, []byte(t.String()+"\n"), 0o600)
}

// ErrOtherMachine: the embedded store serves one machine.
var ErrOtherMachine = errors.New("the cluster uses the built-in store of another machine, which cannot be reached from here")

// CheckMachine refuses a cluster whose embedded store is not on this machine,
// before an empty store of our own is made.
func CheckMachine(c datadir.Cluster, cfg config.Config) error {
	if c.Consul != "" {
		return nil
	}
	file := filepath.Join(cfg.DataDir, datadir.StoreDB)
	if cfg.Store.Embedded != "" {
		file = cfg.Store.Embedded + ".db"
	}
	if _, err := os.Stat(file); err != nil {
		return ErrOtherMachine
	}
	return nil
}

// Overrule returns the configuration with the values that all hosts of the cluster
// share. It calls differ for each key for which this host had another value.
func Overrule(cfg config.Config, c datadir.Cluster, differ func(key string, cluster, host any)) config.Config {
	for _, of := range []struct {
		key           string
		cluster, host any
	}{
		{"domain", c.Domain, cfg.Domain}, {"pool", c.Pool, cfg.Pool}, {"profile", c.Profile, cfg.Profile},
		{"gossip_port", c.GossipPort, cfg.Ports.Gossip}, {"tunnel_port", c.TunnelPort, cfg.Ports.Tunnel},
	} {
		if of.cluster != of.host {
			differ(of.key, of.cluster, of.host)
		}
	}
	cfg.Domain, cfg.Pool, cfg.Profile = c.Domain, c.Pool, c.Profile
	cfg.Ports = config.Ports{Gossip: c.GossipPort, Tunnel: c.TunnelPort}
	if cfg.Store.Consul != "" && c.Consul == "" {
		differ("consul.url", "the embedded store", cfg.Store.Consul)
	}
	cfg.Store.Consul, cfg.Store.Prefix = c.ConsulFor(cfg.Store.Consul), c.Prefix
	return cfg
}
