package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/pool"
)

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
	if err := a.keep(s.host, s.cluster); err != nil {
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

// meta is the cluster's record in the pool.
func (s *session) meta() pool.Meta {
	return pool.Meta{
		Schema: schema, ClusterID: s.cluster.ID, CreatedBy: s.host.Name, Domain: s.cluster.Domain, Pool: s.cluster.Pool,
		TunnelPort: s.cluster.TunnelPort, GossipPort: s.cluster.GossipPort, WGPort: s.cluster.WireGuardPort,
		Profile: s.cluster.Profile, StoreID: s.cluster.Store, Created: time.Now().UTC(),
	}
}

// takeMeta lets the cluster's record win over this host's configuration.
func (s *session) takeMeta(m pool.Meta) {
	s.cluster.take(m)
	s.cluster.overrule(&s.cfg, s.log)
}

// take puts in what the cluster's record says.
func (c *clusterFile) take(m pool.Meta) {
	c.ID, c.Domain, c.Pool, c.Profile = m.ClusterID, m.Domain, m.Pool, m.Profile
	c.TunnelPort, c.WireGuardPort = m.TunnelPort, m.WGPort
}

// poolHost is this host's record in the pool.
func (s *session) poolHost() pool.Host {
	return pool.Host{
		ID: s.host.ID, Name: s.host.Name, Nonce: s.nonce, VTEP: s.cfg.Advertise,
		Gossip:  netip.AddrPortFrom(s.cfg.Advertise, s.cfg.Ports.Gossip),
		Version: api.Release(), Incarnation: s.host.Incarnation, Joined: time.Now().UTC(), Machine: machineID(),
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
