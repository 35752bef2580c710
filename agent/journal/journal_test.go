package journal

import (
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

var (
	addrDiff = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	netBlue  = discovery.NetworkID{1}
)

func endpoint(id byte, addr, name string, aliases ...string) discovery.Endpoint {
	return discovery.Endpoint{ID: discovery.EndpointID{id}, Network: netBlue, IPv4: netip.MustParseAddr(addr), MAC: discovery.MAC{0x0e, id}, Name: name, Aliases: aliases}
}

func TestJournalSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	open := func() *Journal {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		j, err := Open(ipam.NewDisk(&boltfile.DB{DB: db}), func(source string, why error) { t.Errorf("%s: %v", source, why) })
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	web := Local{
		Endpoint: endpoint(1, "10.64.0.2", "web", "www"), Sandbox: "/run/netns/a", Cookie: 7, Ifname: "eth0",
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.0.2/20")}, Created: time.Unix(1, 0).UTC(),
	}
	db := Local{Endpoint: endpoint(2, "10.64.0.3", "db"), Sandbox: "/run/netns/b", Cookie: 8, Ifname: "eth0"}
	var wg sync.WaitGroup
	for _, l := range []Local{web, db} {
		wg.Go(func() {
			if err := j.Put(l); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := j.Remove(db.Endpoint.ID); err != nil {
		t.Fatal(err)
	}
	if err := j.Remove(discovery.EndpointID{99}); err != nil {
		t.Errorf("removing an unknown endpoint: %v", err)
	}
	_ = j.disk.DB().Close()

	j = open()
	web.Rev = 1
	if diff := cmp.Diff([]Local{web}, j.All(), addrDiff); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if _, ok := j.Find(netBlue, 7, "eth0"); !ok {
		t.Error("the endpoint of the sandbox is not found")
	}
	if _, ok := j.Find(netBlue, 8, "eth0"); ok {
		t.Error("the removed endpoint is found")
	}
}
