package kernel_test

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/agent/agenttest/vm"
)

// Each of them takes minutes of emulation: CI has one power cut, the harder of the two,
// and before a release there are more.
var (
	reboots = flag.Int("reboots", 0, "how often the machine is rebooted")
	cuts    = flag.Int("cuts", 1, "how often its power is cut")
)

// A machine with the package, and what starts with it: a namespace of weft-netns@ and
// containers of podman and Docker that are to run always. Whatever ends the machine, it is
// a member again by itself, and each of them has its name and its address.
func TestMachineIsBackAfterRebootsAndPowerCuts(t *testing.T) {
	s := newSite(t)
	want := []string{"client", "web", "pod", "dock"}
	s.awaitBack("installed", want)
	s.assertProofsAgree()
	for i := range *reboots {
		s.m.Reboot()
		s.awaitBack(fmt.Sprintf("reboot %d", i+1), want)
	}
	for i := range *cuts {
		// What is attached by hand is gone with its namespace. It was promised an address
		// a moment before.
		name := fmt.Sprintf("hand%d", i+1)
		s.m.Must("ip", "netns", "add", name)
		s.m.Must("agentctl", "attach", "blue", "--netns", name, "--name", name)
		s.m.CutPower()
		s.m.Start()
		s.awaitBack(fmt.Sprintf("power cut %d", i+1), want)
	}
	// Every address that nobody has can be given: none was lost.
	s.assertAllAddressesCanBeGiven()
}

// site is a member in an emulated machine beside one on the kernel of the tests.
type site struct {
	t      *testing.T
	m      *vm.Machine
	h      *agenttest.Host // the other member
	client *agenttest.Sandbox
}

// waits is what the containers run: it ends when it is asked to.
const waits = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"

const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "file"
[network]
network_backend = "cni"
`

func newSite(t *testing.T) *site {
	t.Helper()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1, Store: agenttest.Consul})
	h := l.Host(1)
	h.Start()
	h.Init()
	h.CreateNetwork("blue", "--subnet", "10.71.0.0/27")
	client, _ := h.Endpoint("blue", "client")
	m := vm.Boot(t, l, vm.Config{Name: "debian", Addr: netip.MustParseAddr("192.0.2.77"), Systemd: true, Disk: true})
	s := &site{t: t, m: m, h: h, client: client}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.Run("systemctl", "--no-pager", "-n", "30", "status", "podman-restart.service", "weft-netns@web.service"))
			t.Log(m.Run("sh", "-c", "agentctl status; agentctl endpoint ls; podman ps -a; docker ps -a"))
		}
	})

	m.CopyIn(debianPackage(t, l.Dir), "/root/weft.deb")
	m.CopyIn(h.TokenFile(), "/root/token")
	m.Write("/etc/systemd/system.conf.d/quick.conf", "[Manager]\nDefaultTimeoutStopSec=20s\n")
	m.Must("dpkg", "-i", "/root/weft.deb")
	m.Must("agentctl", "join", h.Addr.String(), "--token-file", "/root/token")
	m.Write("/etc/weft/netns/web.conf", "blue\n")
	m.Must("systemctl", "enable", "--now", "weft-netns@web.service")

	m.Must("sh", "-euc", `mkdir -p /srv/tree/bin /srv/tree/proc /srv/tree/dev /srv/tree/sys /srv/tree/etc /srv/tree/run /srv/tree/tmp
		cp /bin/busybox /srv/tree/bin/; ln -s busybox /srv/tree/bin/sh; ln -s busybox /srv/tree/bin/sleep`)
	m.Write("/etc/containers/containers.conf", podmanConf)
	m.Must("systemctl", "enable", "podman-restart.service")
	m.Must("podman", "run", "-d", "--name", "pod", "--restart", "always", "--network", "blue", "--rootfs", "/srv/tree", "sh", "-c", waits)

	m.Must("systemctl", "enable", "--now", "docker.service", "containerd.service")
	m.Must("sh", "-euc", "tar -C /srv/tree -c . | docker import - busybox")
	m.Eventually(time.Minute, "sh", "-c", "docker network ls | grep blue")
	m.Must("docker", "run", "-d", "--name", "dock", "--restart", "always", "--network", "blue", "busybox", "sh", "-c", waits)
	return s
}

// debianPackage builds the package.
func debianPackage(t *testing.T, dir string) string {
	t.Helper()
	r := agenttest.Run("", "../../../cmd/agentd/dist/build-deb", filepath.Join(dir, "deb"), "1.0.0")
	if r.Code != 0 {
		t.Fatalf("%s", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// rows are the addresses of the network's endpoints by name, as the other member lists
// them.
func (s *site) rows() map[string]string {
	rows := map[string]string{}
	for name, r := range s.h.Endpoints() {
		rows[name] = r.Address
	}
	return rows
}

// awaitBack waits until there are those endpoints and no other, and each answers to a
// ping by its name. No two ever have one address.
func (s *site) awaitBack(after string, want []string) {
	s.t.Helper()
	agenttest.Eventually(s.t, 4*time.Minute, after+": all endpoints", func() error {
		rows := s.rows()
		holders := map[string]string{}
		for name, addr := range rows {
			if other, taken := holders[addr]; taken {
				s.t.Errorf("%s: %s is the address of %s and of %s", after, addr, name, other)
			}
			holders[addr] = name
		}
		if !slices.Equal(slices.Sorted(maps.Keys(rows)), slices.Sorted(slices.Values(want))) {
			return fmt.Errorf("%v, want %v", rows, want)
		}
		for _, name := range want {
			if r := s.client.Exec("ping", "-n", "-c", "1", "-W", "2", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
		}
		return nil
	})
	s.m.Eventually(time.Minute, "agentctl", "status")
	s.t.Logf("%s: %v", after, s.rows())
}

// assertAllAddressesCanBeGiven attaches until the network is full: of its 32 addresses
// three are no endpoint's, the first, the last and the gateway's.
func (s *site) assertAllAddressesCanBeGiven() {
	s.t.Helper()
	for number := 0; len(s.rows()) < 29; number++ {
		sandbox := s.h.Sandbox(fmt.Sprintf("more%d", number))
		// An address rests for a while before it is given again.
		agenttest.Eventually(s.t, 3*time.Minute, sandbox.NS.Path(), func() error {
			if _, r := sandbox.TryAttach("blue", fmt.Sprintf("more%d", number)); r.Code != 0 {
				return fmt.Errorf("with %d endpoints: %s", len(s.rows()), r)
			}
			return nil
		})
	}
	holders := map[string]string{}
	for name, addr := range s.rows() {
		if other := holders[addr]; other != "" {
			s.t.Errorf("%s is the address of %s and of %s", addr, name, other)
		}
		holders[addr] = name
	}
}
