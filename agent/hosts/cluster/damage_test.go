package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A power cut or a failing disk leaves files that are not what was written. Whatever
// became of them between a stop and a start, no endpoint loses a packet or its name.
func TestDamagedDataFilesAreNotNoticed(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	h := l.Host(3)
	file := func(name string) string { return filepath.Join(h.DataDir(), name) }
	spoil := func(change func(body []byte) []byte, names ...string) func() {
		return func() {
			for _, name := range names {
				body, err := os.ReadFile(file(name))
				if err == nil {
					err = os.WriteFile(file(name), change(body), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	half := func(body []byte) []byte { return body[:len(body)/2] }
	flipped := func(body []byte) []byte {
		for at := 100; at < len(body); at += 1024 {
			body[at] ^= 4
		}
		return body
	}
	var names []string
	for _, o := range from {
		names = append(names, agenttest.FQDN("on-"+o.Host.Name, "blue"))
	}
	pings := []*agenttest.Pinger{from[0].StartPing(from[2].Addr), from[2].StartPing(from[1].Addr)}
	var loads []*agenttest.DNSLoad
	for _, o := range from {
		loads = append(loads, o.DNS.Load(names...))
	}
	// The copies of the journal follow it within a second or two.
	agenttest.Eventually(t, 10*time.Second, "the copy of the journal", func() error {
		body, err := os.ReadFile(filepath.Join(h.Dir, "run", "journal.json"))
		if err == nil && !strings.Contains(string(body), "on-h3") {
			err = errors.New("on-h3 is not in it")
		}
		return err
	})
	start, next := time.Now(), h.Sandbox("next")
	for _, damage := range []func(){
		spoil(half, "leases.db", "view.db"),
		spoil(flipped, "leases.db", "view.db", "host.json", "cluster.json"),
		func() { os.Remove(file("leases.db")); os.Remove(file("view.db")) },
		spoil(func([]byte) []byte { return nil }, "leases.db", "host.json.copy", "cluster.json"),
		spoil(func([]byte) []byte { return []byte("hello\n") }, "view.db", "leases.db"),
	} {
		h.Kill()
		damage()
		h.Start()
		l.Host(1).AwaitMembers(3)
		for _, o := range from {
			agenttest.Eventually(t, 20*time.Second, o.Host.Name+": the name of "+h.Name, o.DNS.Wants(names[2], from[2].Addr))
		}
		if e := h.Endpoints()["on-h3"]; e.Host != "h3" {
			t.Errorf("endpoints of %s: %+v", h.Name, h.Endpoints())
		}
		a := next.Attach("blue", "next")
		for _, o := range from {
			if a.Addr() == o.Addr {
				t.Errorf("%v was given twice", a.Addr())
			}
		}
		h.MustCtl("detach", "blue", "next")
	}
	assertNotDenied(t, l, h, loads)
	for _, p := range pings {
		p.AssertNoLoss(time.Since(start))
	}
}

// assertNotDenied checks that no host said of a name that it is not there, and that none
// but the one that was started again failed at a question. A machine that is busy for a
// moment leaves one unanswered, which says nothing of the agents.
func assertNotDenied(t *testing.T, l *agenttest.Lab, restarted *agenttest.Host, loads []*agenttest.DNSLoad) {
	t.Helper()
	for i, load := range loads {
		seen := load.Stop()
		t.Logf("DNS on %s: %s", l.Hosts[i].Name, agenttest.Counts(seen))
		if seen["NXDOMAIN"]+seen["no address"] > 0 || l.Hosts[i] != restarted && (seen["SERVFAIL"] > 0 || seen["no answer"]*50 > seen["NOERROR"]) {
			t.Errorf("a name was denied on %s: %s", l.Hosts[i].Name, agenttest.Counts(seen))
		}
	}
}
