package endpoints_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// happened is one event of `agentctl events -o json`.
type happened struct {
	Host, Kind, Subject, Network, Endpoint, Addr, By string
	Detail                                           map[string]any
}

func events(h *agenttest.Host, args ...string) (out []happened) {
	h.CtlJSON(&out, append([]string{"events", "-o", "json"}, args...)...)
	return out
}

// want waits for an event of that kind about that subject, and returns it.
func want(t *testing.T, h *agenttest.Host, kind, subject string, args ...string) (found happened) {
	t.Helper()
	agenttest.Eventually(t, 20*time.Second, kind+" of "+subject, func() error {
		all := events(h, append([]string{"--kind", kind}, args...)...)
		i := slices.IndexFunc(all, func(e happened) bool { return e.Subject == subject })
		if i < 0 {
			return fmt.Errorf("%+v", all)
		}
		found = all[i]
		return nil
	})
	return found
}

func TestEventsSayWhatHappenedAndWhoDidIt(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	web, a := one.Endpoint("blue", "web")
	one.Kill() // what was written down stays
	want(t, two, "agent-down", "h1")
	one.Start()
	want(t, two, "member-alive", "h1")
	web.Detach("blue", "web")
	one.MustCtl("network", "rm", "blue")

	const user = "root (uid 0)"
	for _, e := range []happened{
		{Kind: "member-joined", Subject: "h1", By: user}, {Kind: "network-created", Subject: "blue", By: user},
		{Kind: "endpoint-attached", Subject: "web", By: user, Addr: a.Addr().String(), Endpoint: a.ID, Network: "blue"},
		{Kind: "endpoint-detached", Subject: "web", By: user, Addr: a.Addr().String(), Endpoint: a.ID, Network: "blue"},
		{Kind: "network-removed", Subject: "blue", By: user},
	} {
		got := want(t, two, e.Kind, e.Subject, "--host", "h1")
		if got.By != e.By || e.Addr != "" && (got.Addr != e.Addr || got.Endpoint != e.Endpoint || got.Network != e.Network) {
			t.Errorf("%+v, want %+v", got, e)
		}
	}
	starts := 0
	for _, e := range events(two, "--all", "--kind", "agent-started") {
		if e.Host == "h1" {
			starts++
		}
	}
	if starts != 2 {
		t.Errorf("h1 started twice, and wrote down %d starts", starts)
	}
	leased, freed := events(one, "--kind", "address-leased", "--endpoint", a.Addr().String()), events(one, "--kind", "address-freed", "--endpoint", a.Addr().String())
	if len(leased) != 1 || len(freed) != 1 {
		t.Errorf("leased %+v, freed %+v", leased, freed)
	}
	two.Kill()
	agenttest.Eventually(t, 30*time.Second, "h2 does not answer, which is said", func() error {
		if r := one.Ctl("events", "--all"); r.Code != 0 || !strings.Contains(r.Stderr, "h2 was not asked") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

func TestAnAddressThatMovedHasAHistory(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	addr := one.CreateNetwork("blue").Number(77).String()
	old, _ := one.Endpoint("blue", "db", "--ip", addr)
	before := time.Now()
	old.Detach("blue", "db")
	young := two.Sandbox("db")
	agenttest.Eventually(t, 60*time.Second, addr+" is free again", func() error {
		if _, r := young.TryAttach("blue", "db", "--ip", addr); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if e := want(t, two, "endpoint-moved", "db"); e.Addr != addr || e.Detail["from"] != "h1" {
		t.Errorf("%+v", e)
	}
	var spans []struct {
		Host, Address string
		From, To      time.Time
	}
	for word, flags := range map[string][]string{"db": nil, addr: nil} {
		one.CtlJSON(&spans, append([]string{"endpoint", "history", word, "-o", "json"}, flags...)...)
		if len(spans) != 2 || spans[0].Host != "h1" || spans[1].Host != "h2" || spans[0].To.IsZero() || !spans[1].To.IsZero() || spans[1].From.Before(spans[0].To) {
			t.Errorf("%s: %+v", word, spans)
		}
	}
	for at, host := range map[time.Time]string{before: "h1", time.Now(): "h2"} {
		two.CtlJSON(&spans, "endpoint", "history", addr, "--at", at.Format(time.RFC3339Nano), "-o", "json")
		if len(spans) != 1 || spans[0].Host != host {
			t.Errorf("at %s: %+v, want %s", at, spans, host)
		}
	}
}

func TestAFullDiskCostsEventsAndNoAttach(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	dir := filepath.Join(h.Dir, "data", "history")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	h.Start()
	h.Init()
	h.CreateNetwork("blue")
	h.Endpoint("blue", "before")
	ballast := filepath.Join(dir, "00000000000000000001.jsonl") // a segment too, so that the directory stays ours
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	said := func() string { return h.Ctl("status").Stdout }
	agenttest.Eventually(t, 20*time.Second, "status says that events are lost", func() error {
		if out := said(); !strings.Contains(out, "events are lost since") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	_, a := h.Endpoint("blue", "web") // goes on
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if e := want(t, h, "events-lost", "h1"); e.Detail["lost"].(float64) < 2 {
		t.Errorf("%+v", e)
	}
	h.Endpoint("blue", "after")
	want(t, h, "endpoint-attached", "after")
	for _, e := range events(h, "--kind", "endpoint-attached") {
		if e.Endpoint == a.ID {
			t.Errorf("%+v was written on a full disk", e)
		}
	}
	if out := said(); !strings.Contains(out, "could not be since the agent began") {
		t.Errorf("%s", out)
	}
}

// Ports and labels are seen on every host.
func TestPortsAndLabelsAreSeenOnEveryHost(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	one.Endpoint("blue", "web", "-p", "8080:80", "--label", "team=shop")
	agenttest.Eventually(t, 10*time.Second, "h2 shows the port of web", func() error {
		out := two.MustCtl("endpoint", "ls", "--filter", "label=team=shop")
		if !strings.Contains(out, "0.0.0.0:8080->80/tcp") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}
