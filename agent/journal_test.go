package agent

import (
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
)

func TestJournalSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	open := func() *journal {
		t.Helper()
		db, err := openBolt(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		j, err := openJournal(ipam.NewDisk(db))
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	web := Local{
		Endpoint: endpoint(1, netBlue, "10.64.0.2", "web", "www"), Sandbox: "/run/netns/a", Cookie: 7, Ifname: "eth0",
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.64.0.2/20")}, Created: time.Unix(1, 0).UTC(),
	}
	db := Local{Endpoint: endpoint(2, netBlue, "10.64.0.3", "db"), Sandbox: "/run/netns/b", Cookie: 8, Ifname: "eth0"}
	var wg sync.WaitGroup
	for _, l := range []Local{web, db} {
		wg.Go(func() {
			if err := j.put(l); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := j.remove(db.Endpoint.ID); err != nil {
		t.Fatal(err)
	}
	if err := j.remove(discovery.EndpointID{99}); err != nil {
		t.Errorf("removing an unknown endpoint: %v", err)
	}
	_ = j.disk.DB().Close()

	j = open()
	if diff := cmp.Diff([]Local{web}, j.all(), addrDiff); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if _, ok := j.find(netBlue, 7, "eth0"); !ok {
		t.Error("the endpoint of the sandbox is not found")
	}
	if _, ok := j.find(netBlue, 8, "eth0"); ok {
		t.Error("the removed endpoint is found")
	}
}

func TestKeyedLocks(t *testing.T) {
	var k keyedLocks
	unlock := k.lock(1)
	k.lock(2)() // another key does not wait
	order := make(chan int, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer k.lock(1)()
		order <- 2
	}()
	order <- 1
	unlock()
	<-done
	if first := <-order; first != 1 {
		t.Error("a held key was locked")
	}
	if len(k.held) != 0 {
		t.Errorf("%d locks left, want none", len(k.held))
	}
}
