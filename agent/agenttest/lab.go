package agenttest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Store says where the agents of a lab keep the pool.
type Store int

const (
	Embedded Store = iota // the agents' own store, shared over a socket
	Consul                // a real Consul server at Lab.Internet
)

func (s Store) String() string { return [...]string{"embedded store", "Consul"}[s] }

// Config describes a lab. Its zero value is three hosts on the embedded store
// with an underlay of 1500 bytes.
type Config struct {
	Hosts       int
	Store       Store
	UnderlayMTU int
	// Programs is a directory with the programs of another release; empty: those of
	// this module.
	Programs string
}

// Lab is hosts joined by a switch.
type Lab struct {
	ID  string
	Dir string // holds the run and data directories, the store and the logs
	// Internet is the namespace behind the hosts' default route. It answers at
	// InternetAddr and runs the Consul server, if there is one.
	Internet Netns
	Hosts    []*Host
	Switch   Netns

	cfg    Config
	t      testing.TB
	consul *process
}

// Addresses of the lab's underlay (RFC 5737).
var (
	// InternetAddr is an address that is on no network of the hosts.
	InternetAddr = netip.MustParseAddr("198.51.100.1")
	// RouterAddr is the hosts' default gateway, in their own subnet.
	RouterAddr = netip.MustParseAddr("192.0.2.254")
)

// consulURL is where the lab's Consul answers.
const consulURL = "http://192.0.2.254:8500"

// NewLab makes the hosts and the switch, and starts Consul if the lab has it.
// No agent runs yet.
func NewLab(t testing.TB, cfg Config) *Lab {
	t.Helper()
	Need(t, "ip", "bridge", "nft", "nsenter", "ping")
	if cfg.Hosts == 0 {
		cfg.Hosts = 3
	}
	if cfg.UnderlayMTU == 0 {
		cfg.UnderlayMTU = 1500
	}
	makeRoom(t)
	id, dir, release := claim(t)
	l := &Lab{ID: id, Dir: dir, Internet: Netns(id + "-net"), Switch: Netns(id + "-sw"), cfg: cfg, t: t}
	t.Cleanup(func() {
		l.tearDown()
		release()
	})
	l.wire()
	if cfg.Store == Consul {
		l.StartConsul()
	}
	return l
}

// neighboursMost is what the machine's neighbour tables may hold at least while labs
// run: the tables are one for all namespaces, so the entries of a thousand endpoints of
// another test would be a warning in every status, as it should be on a real host.
const neighboursMost = 16384

// makeRoom raises the limits of the neighbour tables. They stay raised, as an agent on
// this machine would have raised them.
func makeRoom(t testing.TB) {
	t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		file := "/proc/sys/net/" + family + "/neigh/default/gc_thresh3"
		b, err := os.ReadFile(file)
		if n, _ := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n >= neighboursMost {
			continue
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(neighboursMost)), 0o644); err != nil {
			t.Logf("the neighbour tables of this machine are small: %v", err)
		}
	}
}

// NewCluster is NewLab with an agent on every host and all of them members.
func NewCluster(t testing.TB, cfg Config) *Lab {
	t.Helper()
	l := NewLab(t, cfg)
	l.Assemble()
	return l
}

// Assemble starts the agents and makes all hosts members.
func (l *Lab) Assemble() {
	l.t.Helper()
	for _, h := range l.Hosts {
		h.Launch()
	}
	for _, h := range l.Hosts {
		h.AwaitAPI()
	}
	l.Hosts[0].Init()
	for _, h := range l.Hosts[1:] {
		h.Join(l.Hosts[0])
	}
	for _, h := range l.Hosts {
		h.AwaitMembers(len(l.Hosts))
	}
}

// Host returns host number i, from 1 as in its name.
func (l *Lab) Host(i int) *Host { return l.Hosts[i-1] }

// wire makes the namespaces and plugs every one into the switch.
func (l *Lab) wire() {
	l.Switch.add(l.t)
	l.Switch.batch(l.t,
		fmt.Sprintf("link add br0 mtu %d type bridge stp_state 0 mcast_snooping 0", l.cfg.UnderlayMTU),
		"link set br0 up")
	l.Internet.add(l.t)
	l.plug("net", l.Internet, RouterAddr)
	l.Internet.batch(l.t, "addr add "+InternetAddr.String()+"/32 dev lo")
	for i := range l.cfg.Hosts {
		h := newHost(l, i+1)
		l.Hosts = append(l.Hosts, h)
		h.NS.add(l.t)
		l.plug(h.Name, h.NS, h.Addr)
		h.NS.batch(l.t, "route add default via "+RouterAddr.String())
	}
}

// plug gives the namespace an eth0 with addr, whose other end is the switch's
// port of that name.
func (l *Lab) plug(port string, n Netns, addr netip.Addr) {
	l.Switch.batch(l.t,
		fmt.Sprintf("link add %s mtu %d type veth peer name eth0 mtu %d netns %s", port, l.cfg.UnderlayMTU, l.cfg.UnderlayMTU, n),
		fmt.Sprintf("link set %s master br0 up", port))
	n.batch(l.t,
		fmt.Sprintf("addr add %s/24 dev eth0", addr),
		"link set eth0 up")
	l.awaitCarrier(port, n)
}

// awaitCarrier waits until a cable carries: the kernel may let the carrier of a
// new veth wait for up to a second, in which packets are lost.
func (l *Lab) awaitCarrier(port string, n Netns) {
	for dev, ns := range map[string]Netns{port: l.Switch, "eth0": n} {
		Eventually(l.t, 3*time.Second, string(ns)+" "+dev+" carries", func() error {
			if out := must(l.t, "ip", "-n", string(ns), "-o", "link", "show", "dev", dev); !strings.Contains(out, "state UP") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

// Cut pulls the cable of a host.
func (l *Lab) Cut(h *Host) { l.Switch.batch(l.t, "link set "+h.Name+" down") }

// Heal plugs it in again.
func (l *Lab) Heal(h *Host) {
	l.Switch.batch(l.t, "link set "+h.Name+" up")
	l.awaitCarrier(h.Name, h.NS)
}

// TunnelPackets counts the encapsulated packets that cross the switch from now
// on. The returned function says how many of the network's there were since.
func (l *Lab) TunnelPackets(vni uint32) func() int {
	l.t.Helper()
	table := fmt.Sprintf("count%d", vni)
	// A VXLAN packet carries its VNI in the 24 bits after the UDP header (8
	// bytes), the flags (1) and the reserved field (3): RFC 7348, section 5.
	mustFeed(l.t, fmt.Sprintf(`
		table bridge %[1]s {
			counter seen { }
			chain forward {
				type filter hook forward priority 0;
				udp dport 4799 @th,96,24 %[2]d counter name seen
			}
		}`, table, vni), l.Switch.Enter("nft", "-f", "-")...)
	count := func() int {
		var list struct {
			Nftables []struct {
				Counter *struct{ Packets int } `json:"counter"`
			} `json:"nftables"`
		}
		out := l.Switch.Must(l.t, "nft", "-j", "list", "counters", "table", "bridge", table)
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			l.t.Fatalf("nft: %v in %s", err, out)
		}
		for _, item := range list.Nftables {
			if item.Counter != nil {
				return item.Counter.Packets
			}
		}
		l.t.Fatalf("nft: no counter in %s", out)
		return 0
	}
	return count
}

// tearDown shows the agents' logs of a failed test, and removes the lab.
func (l *Lab) tearDown() {
	for _, h := range l.Hosts {
		if l.t.Failed() && h.agent != nil {
			l.t.Logf("end of the log of %s:\n%s", h.Name, h.LogTail(60))
		}
		h.Kill()
	}
	if err := remove(l.ID); err != nil {
		l.t.Errorf("remove the lab: %v", err)
	}
	if left, _ := filepath.Glob("/run/netns/" + l.ID + "-*"); len(left) > 0 {
		l.t.Errorf("namespaces left over: %v", left)
	}
}
