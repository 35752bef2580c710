package membership

import (
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
)

// CheckJoin reads a join request, or says what is wrong with it. The address of
// Consul in it is then as it is kept.
func CheckJoin(r *api.JoinRequest) (datadir.Token, []netip.AddrPort, error) {
	t, err := datadir.ParseToken(r.Token)
	if err != nil {
		return t, nil, api.Errorf(api.KindMisuse, "join: %v", err).
			WithHint("agentctl join ADDRESS --token-file FILE # the whole file that agentctl init named")
	}
	peers, err := readPeers(r.Addresses, t.GossipPort)
	if err != nil {
		return t, nil, err
	}
	if t.Consul, err = config.Consul(t.Consul); err != nil {
		return t, nil, api.Errorf(api.KindMisuse, "join: the token names Consul at %v", err).
			WithHint("agentctl join %s --token-file FILE # of another member", r.Addresses[0])
	}
	if r.Consul, err = config.Consul(r.Consul); err != nil {
		return t, nil, api.Errorf(api.KindMisuse, "join: --consul %v", err).
			WithHint("agentctl join %s --token-file FILE --consul http://192.0.2.10:8500", r.Addresses[0])
	}
	return t, peers, nil
}

// JoinedAlready makes join safe to repeat.
func (m *Membership) JoinedAlready(t datadir.Token) (api.JoinResult, error) {
	host, cluster := m.cfg.Host, m.Cluster()
	if cluster.Forgotten == "" && t.Cluster == cluster.ID {
		out := api.JoinResult{Cluster: cluster.ID, Already: true}
		for _, o := range m.directory.View().Members {
			if o.ID != host.ID && o.Status == discovery.StatusAlive {
				out.Members = append(out.Members, o.Name)
			}
		}
		return out, nil
	}
	if why := cluster.Forgotten; why != "" {
		return api.JoinResult{}, api.Errorf(api.KindConflict, "join: %s was taken out of cluster %s: %s", host.Name, cluster.ID, why).
			WithHint("agentctl join ADDRESS --token-file FILE --replace # detaches what runs here, and joins as a new host")
	}
	return api.JoinResult{}, api.Errorf(api.KindConflict, "join: %s is a member of cluster %s", host.Name, cluster.ID).
		WithHint("agentctl leave --purge\nagentctl join ADDRESS --token-file FILE")
}

// SetConsul notes where this host asks Consul from now on. configured is what its
// configuration says of that now.
func (m *Membership) SetConsul(address, configured string) error {
	return m.change(func(c *datadir.Cluster) bool {
		if address == c.Consul {
			address = ""
		}
		changed := c.OwnConsul != address || c.ConfiguredConsul != configured
		c.OwnConsul, c.ConfiguredConsul = address, configured
		return changed
	})
}
