package runtimes_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestPodmanContainersGetWhatTheyAskFor(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue", "--subnet", "10.71.0.0/16")
	p := h.Podman()
	p.Start("Web.1", "--network", "blue", "--network-alias", "www", "--network-alias", "front", "--ip", "10.71.9.9", "--mac-address", "0e:00:00:00:09:09")
	row := h.Endpoints()["web-1"]
	if row.Address != "10.71.9.9/16" || row.MAC != "0e:00:00:00:09:09" || !slices.Contains(row.Aliases, "www") || !slices.Contains(row.Aliases, "front") {
		t.Errorf("%+v", row)
	}
	if r := p.Exec("Web.1", "ip", "address", "show", "dev", "eth0"); !strings.Contains(r.Stdout, "10.71.9.9/16") || !strings.Contains(r.Stdout, "0e:00:00:00:09:09") {
		t.Errorf("%s", r)
	}
	if r := p.Exec("Web.1", "cat", "/etc/resolv.conf"); !strings.Contains(r.Stdout, "nameserver 10.71.0.1\n") || !strings.HasPrefix(r.Stdout, "search blue.weft.internal weft.internal") {
		t.Errorf("%s", r)
	}
	if left, _ := filepath.Glob("/etc/netns/netns-*"); len(left) > 0 {
		t.Errorf("a resolv.conf of ours for a container whose runtime writes it: %v", left)
	}

	// An error is the agent's, hint and all, and leaves nothing.
	r := p.TryStart("twin", "--network", "blue", "--ip", "10.71.9.9")
	if r.Code == 0 || !strings.Contains(r.Stderr, "10.71.9.9 is taken by web-1 on h1") || !strings.Contains(r.Stderr, "agentctl endpoint ls") {
		t.Errorf("%s", r)
	}
	if row, ok := h.Endpoints()["twin"]; ok {
		t.Errorf("left over: %+v", row)
	}
	// A restart is a new namespace for the same container.
	p.Must("restart", "-t", "0", "Web.1")
	if row := h.Endpoints()["web-1"]; row.Address != "10.71.9.9/16" {
		t.Errorf("after restart: %+v", row)
	}
	// Its ports are the agent's to publish, once for all of its networks.
	h.CreateNetwork("red")
	p.Start("pub", "--network", "blue,red", "-p", "8080:80")
	if out := h.MustCtl("endpoint", "ls"); strings.Count(out, "0.0.0.0:8080->80/tcp") != 1 {
		t.Errorf("endpoint ls:\n%s", out)
	}
	if r := p.TryStart("late", "--network", "blue", "-p", "8080:80"); r.Code == 0 || !strings.Contains(r.Stderr, "taken by") {
		t.Errorf("a port that is taken: %s", r)
	}
	p.Must("rm", "-f", "-t", "0", "-a")
	agenttest.Eventually(t, time.Second, "everything is gone", func() error {
		if rows := h.Endpoints(); len(rows) > 0 {
			return fmt.Errorf("%v", rows)
		}
		return nil
	})
}

// A container that ends while its host has no agent is nobody's endpoint when
// there is one again, and one that goes on is the same as before.
func TestPodmanContainersComeAndGoWithoutAnAgent(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	awaitConflist(t, one, "blue")
	p := one.Podman()
	p.Start("stays", "--network", "blue")
	p.Start("goes", "--network", "blue")
	before := one.Endpoints()["stays"]
	one.Kill()
	if r := p.TryStart("early", "--network", "blue"); r.Code == 0 || !strings.Contains(r.Stderr, "is not running") {
		t.Errorf("%s", r)
	}
	p.Run("rm", "-f", "-t", "0", "goes", "early")
	one.Start()
	agenttest.Eventually(t, 5*time.Second, "only the one that stayed is there", func() error {
		rows := two.Endpoints()
		if len(rows) != 1 || rows["stays"].Address != before.Address {
			return fmt.Errorf("%v", rows)
		}
		return nil
	})
}

// podman gives a container's ports with each of its networks, in any order, and
// listens on them itself: they follow the container over its networks.
func TestPodmanPortsFollowItsNetworks(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	one.CreateNetwork("red")
	one.MustCtl("network", "create", "inner", "--internal")
	for _, n := range []string{"blue", "red", "inner"} {
		awaitConflist(t, one, n)
	}
	podman := one.Podman()
	for range 4 {
		podman.Start("both", "--network", "inner,blue", "-p", "8022:80")
		podman.Must("rm", "-f", "-t", "0", "both")
	}
	podman.Start("Web.One", "--network", "blue", "-p", "8090:80")
	served := func(what string) {
		t.Helper()
		agenttest.Eventually(t, 3*time.Second, what, func() error {
			if r := two.NS.Run("curl", "-sS", "--max-time", "1", fmt.Sprintf("http://%s:8090/", one.Addr)); r.Stdout != "hello\n" {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	if r := podman.Exec("Web.One", "sh", "-c", "mkdir /www; echo hello >/www/index.html; httpd -p 80 -h /www"); r.Code != 0 {
		t.Fatalf("%s", r)
	}
	served("on blue")
	one.MustCtl("network", "connect", "red", "Web.One")
	podman.Must("network", "disconnect", "blue", "Web.One")
	served("on red, as blue is gone")
	podman.Must("network", "connect", "blue", "Web.One")
	one.MustCtl("network", "disconnect", "red", "Web.One")
	served("on blue again")
	podman.Must("network", "disconnect", "blue", "Web.One")
	podman.Must("network", "connect", "blue", "Web.One")
	served("on its only network, off and on")
	podman.Must("rm", "-f", "-t", "0", "Web.One")
	if r := podman.TryStart("next", "--network", "blue", "-p", "8090:80"); r.Code != 0 {
		t.Errorf("the port is not free: %s", r)
	}

	// podman tells a plugin of a new name when the container starts.
	podman.Must("rename", "next", "later")
	podman.Must("restart", "-t", "0", "later")
	if _, ok := one.Endpoints()["later"]; !ok {
		t.Errorf("renamed and restarted, got %v", one.Endpoints())
	}
}
