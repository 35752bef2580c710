package endpoint

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

// openJournal is an empty one.
func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	db, _, err := datadir.OpenDB(filepath.Join(t.TempDir(), datadir.LeasesDB), boltfile.All)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	j, err := journal.Open(ipam.NewDisk(db), func(source string, why error) { t.Errorf("%s: %v", source, why) })
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// cluster is the rest of a member that knows some networks.
type cluster struct {
	Cluster
	networks []discovery.Network
}

func known(all []discovery.Network) Cluster { return cluster{networks: all} }

func (c cluster) Network(id discovery.NetworkID) (discovery.Network, bool) {
	i := slices.IndexFunc(c.networks, func(n discovery.Network) bool { return n.ID == id })
	if i < 0 {
		return discovery.Network{}, false
	}
	return c.networks[i], true
}

func TestDefaultRouteGoesToTheFirstNetworkThatMayHaveIt(t *testing.T) {
	network := func(id byte, name string, internal bool) discovery.Network {
		return discovery.Network{ID: discovery.NetworkID{id}, Name: name, Internal: internal}
	}
	on := func(id byte, cookie uint64, has, unwanted bool) journal.Local {
		return journal.Local{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{id}, Network: discovery.NetworkID{id}}, Cookie: cookie, NoDefault: !has, NoRoute: unwanted}
	}
	all := []discovery.Network{network(1, "going", false), network(2, "web", false), network(3, "back", false), network(4, "a-inner", true)}
	for name, tt := range map[string]struct {
		others []journal.Local
		want   string
	}{
		"the first by name":         {[]journal.Local{on(2, 7, false, false), on(3, 7, false, false)}, "back"},
		"not an internal one":       {[]journal.Local{on(2, 7, false, false), on(4, 7, false, false)}, "web"},
		"not against the user":      {[]journal.Local{on(2, 7, false, false), on(3, 7, false, true)}, "web"},
		"not when another has it":   {[]journal.Local{on(2, 7, true, false), on(3, 7, false, false)}, ""},
		"not to another sandbox":    {[]journal.Local{on(3, 8, false, false)}, ""},
		"not to an unknown network": {[]journal.Local{on(9, 7, false, false)}, ""},
		"nobody else":               {nil, ""},
	} {
		going := on(1, 7, true, false)
		p := &parts{Config: Config{Journal: openJournal(t), Cluster: known(all)}}
		for _, l := range append(tt.others, going) {
			if err := p.Journal.Put(l); err != nil {
				t.Fatal(err)
			}
		}
		if _, n, _ := p.nextDefault(going); n.Name != tt.want {
			t.Errorf("%s: got %q, want %q", name, n.Name, tt.want)
		}
	}
}
