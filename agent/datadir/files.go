package datadir

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Host is host.json: who this host is. It is written before gossip opens,
// so that no two starts ever speak with one incarnation.
type Host struct {
	Schema      int              `json:"schema"`
	ID          discovery.HostID `json:"id"`
	Incarnation uint64           `json:"incarnation"`
	Name        string           `json:"name"`
}

// Check says what of a host.json no agent wrote.
func (h *Host) Check() error {
	if h.ID.IsZero() || h.Name == "" || h.Incarnation == 0 {
		return errors.New("it names no host")
	}
	return nil
}

// Cluster is cluster.json: which cluster this host is a member of, and the
// settings that all members share.
type Cluster struct {
	Schema        int          `json:"schema"`
	ID            string       `json:"id"` // 32 hex digits
	Keys          [][]byte     `json:"keys"`
	Domain        string       `json:"domain"`
	Pool          netip.Prefix `json:"pool"`
	Profile       string       `json:"profile"`
	GossipPort    uint16       `json:"gossip_port"`
	TunnelPort    uint16       `json:"tunnel_port"`
	WireGuardPort uint16       `json:"wireguard_port,omitempty"` // as pool.Meta.WGPort
	Consul        string       `json:"consul,omitempty"`         // URL, several with commas between, as the token has it; empty: the embedded store
	// OwnConsul is Consul as this host reaches it; empty: at Consul. It was chosen while
	// the configuration said what is in ConfiguredConsul: a later change there counts
	// for more.
	OwnConsul        string           `json:"own_consul,omitempty"`
	ConfiguredConsul string           `json:"configured_consul,omitempty"`
	Prefix           string           `json:"prefix"`
	CA               []byte           `json:"ca,omitempty"`
	Store            string           `json:"store,omitempty"`     // id of the embedded store
	Peers            []netip.AddrPort `json:"peers,omitempty"`     // given to join
	Forgotten        string           `json:"forgotten,omitempty"` // who took this host out
	Cloned           bool             `json:"cloned,omitempty"`    // written by 0.1.0: Forgotten was not said by the pool
}

// ConsulFor is the address at which this host asks Consul, of which its configuration
// says configured; empty: the store is the embedded one.
func (c Cluster) ConsulFor(configured string) string {
	switch {
	case c.Consul == "":
		return ""
	case configured != "" && configured != c.ConfiguredConsul:
		return configured
	}
	return cmp.Or(c.OwnConsul, c.Consul)
}

// Check says what of a cluster.json no agent wrote.
func (c *Cluster) Check() error {
	switch id, err := hex.DecodeString(c.ID); {
	case err != nil || len(id) != 16:
		return fmt.Errorf("%q is no id of a cluster", c.ID)
	case len(c.Keys) == 0 || slices.ContainsFunc(c.Keys, func(k []byte) bool { return len(k) != 32 }):
		return errors.New("it has no key, or one that is not whole")
	case c.Domain == "" || !c.Pool.IsValid() || c.Profile == "" || c.GossipPort == 0 || c.TunnelPort == 0 || c.Prefix == "":
		return errors.New("it lacks a setting of the cluster")
	}
	return nil
}

// Pending is pending.json: the membership that init is about to write into the
// pool. Its keys are nowhere else until cluster.json is there, so without it an
// init that is killed in between would leave a cluster that nobody can enter.
type Pending struct {
	Schema  int     `json:"schema"`
	Cluster Cluster `json:"cluster"`
	Host    Host    `json:"host"`
}

// Check says what of a pending.json no agent wrote.
func (p *Pending) Check() error { return errors.Join(p.Cluster.Check(), p.Host.Check()) }

// unfreed is unfreed.json: the hosts that this one fenced to take their name, until
// what they held is free. It is written before the fence, so that nothing is lost
// for ever when a join is killed in between.
type unfreed struct {
	Schema int                `json:"schema"`
	Hosts  []discovery.HostID `json:"hosts"`
}

// Unfreed reads the hosts that this one fenced to take their name and whose blocks
// are still to be freed. Mostly there are none.
func (d *Dir) Unfreed() ([]discovery.HostID, error) {
	var f unfreed
	if err := d.Read(UnfreedFile, &f); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return f.Hosts, nil
}

// SetUnfreed replaces that list. An empty one removes the file.
func (d *Dir) SetUnfreed(hosts []discovery.HostID) error {
	if len(hosts) == 0 {
		return d.Remove(UnfreedFile)
	}
	return d.Write(UnfreedFile, unfreed{Schema, hosts})
}

// Keep puts a membership on the disk: from here on a restart resumes it.
func (d *Dir) Keep(h Host, c Cluster) error {
	if err := d.Write(HostFile, h); err != nil {
		return err
	}
	if err := d.Write(ClusterFile, c); err != nil {
		return err
	}
	return d.Remove(PendingFile)
}

// Forget removes all that makes this host a member of a cluster.
func (d *Dir) Forget() error {
	return d.Remove(ClusterFile, HostFile, UnfreedFile, PendingFile, LeasesDB, ViewDB, TokenFile, CAFile)
}
