package endpoints_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What cannot be is refused in words, and changes nothing.
func TestBadInputIsRefusedInWordsAndLeavesNoTrace(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	h.CreateNetwork("tiny", "--subnet", "10.78.0.0/30")
	h.Endpoint("tiny", "only") // network, gateway, broadcast: one address is left
	held, a := h.Endpoint("blue", "held")
	free := h.Sandbox("free")
	netns := string(free.NS)
	before := l.Entries(t)

	for _, row := range badInput(l, held, a, netns) {
		t.Run(row.name, func(t *testing.T) {
			r := h.Ctl(row.args...)
			if r.Code == 0 && slices.Contains(row.codes, 0) {
				return // idempotent commands may say so
			}
			agenttest.WantError(t, r, row.codes...)
		})
	}

	if r := h.Ctl("detach", "blue", "nobody"); r.Code != 0 {
		t.Errorf("detach of what is gone already: %s", r)
	}
	for i, host := range l.Hosts {
		if diff := agenttest.Diff(before[i], host.Entries(t)); diff != "" {
			t.Errorf("%s: the failed commands left:\n%s", host.Name, diff)
		}
	}
	if links := strings.TrimSpace(free.NS.Must(t, "ip", "-o", "link")); strings.Count(links, "\n") > 0 {
		t.Errorf("the failed commands left in the sandbox: %s", links)
	}
	if _, err := os.Stat("/etc/netns/" + netns); err == nil {
		t.Errorf("the failed commands left a resolv.conf for %s", netns)
	}
	free.Attach("blue", "web") // and the sandbox can still be attached
}

// refusal is a command that fails with one of the codes.
type refusal struct {
	name  string
	codes []int
	args  []string
}

// fifo is one that nobody has opened.
func fifo(l *agenttest.Lab) string {
	path := filepath.Join(l.Dir, "fifo")
	_ = syscall.Mkfifo(path, 0o600)
	return path
}

// badInput is commands that cannot be obeyed where held is attached to blue as a,
// tiny is full, and netns is free.
func badInput(l *agenttest.Lab, held *agenttest.Sandbox, a agenttest.Attachment, netns string) []refusal {
	return []refusal{
		{"overlapping subnet", []int{5}, []string{"network", "create", "x", "--subnet", "10.77.0.128/25"}},
		{"subnet around another", []int{5}, []string{"network", "create", "x", "--subnet", "10.76.0.0/14"}},
		{"subnet around all others", []int{5}, []string{"network", "create", "x", "--subnet", "10.0.0.0/8"}},
		{"range without an address to give", []int{2}, []string{"network", "create", "x", "--subnet", "10.80.0.0/24", "--ip-range", "10.80.0.1/32"}},
		{"name of a network that Docker refuses", []int{2}, []string{"network", "create", "_x"}},
		{"subnet of the underlay", []int{5}, []string{"network", "create", "x", "--subnet", "192.0.2.0/25"}},
		{"malformed subnet", []int{2}, []string{"network", "create", "x", "--subnet", "10.77.0.0/33"}},
		{"no subnet at all", []int{2}, []string{"network", "create", "x", "--subnet", "many"}},
		{"two subnets of a family", []int{2}, []string{"network", "create", "x", "--subnet", "10.80.0.0/24", "--subnet", "10.81.0.0/24"}},
		{"gateway outside the subnet", []int{2}, []string{"network", "create", "x", "--subnet", "10.80.0.0/24", "--gateway", "10.81.0.1"}},
		{"name of a network that exists", []int{5}, []string{"network", "create", "blue"}},
		{"name of a network that is reserved", []int{2}, []string{"network", "create", "host"}},
		{"name of a network that is no label", []int{2}, []string{"network", "create", "a b"}},
		{"option that nobody knows", []int{2}, []string{"network", "create", "x", "-o", "colour=red"}},
		{"driver that nobody knows", []int{2}, []string{"network", "create", "x", "-d", "carrier-pigeon"}},
		{"full subnet", []int{5}, []string{"attach", "tiny", "--netns", netns, "--name", "second"}},
		{"address in use", []int{5}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ip", a.Addr().String()}},
		{"address of the gateway", []int{5, 2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ip", a.Gateway.String()}},
		{"address outside the subnet", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ip", "10.99.0.1"}},
		{"no address", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ip", "10.77.0.999"}},
		{"no MAC", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--mac", "nope"}},
		{"MAC of a group", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--mac", "01:00:5e:00:00:01"}},
		{"MAC of nobody", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--mac", "00:00:00:00:00:00"}},
		{"MAC of the gateway", []int{5}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--mac", gatewayMAC(l, held, a)}},
		{"unknown network", []int{4}, []string{"attach", "nowhere", "--netns", netns, "--name", "web"}},
		{"the fabric", []int{2}, []string{"attach", "blue", "--netns", string(l.Host(1).Fabric), "--name", "web"}},
		{"the fabric of another host of the machine", []int{2}, []string{"attach", "blue", "--netns", string(l.Host(2).Fabric), "--name", "web"}},
		{"the host's own namespace", []int{2}, []string{"attach", "blue", "--netns", string(l.Host(1).NS), "--name", "web"}},
		{"the host's own namespace, by a process", []int{2}, []string{"attach", "blue", "--pid", strconv.Itoa(l.Host(1).PID()), "--name", "web"}},
		{"a FIFO", []int{2}, []string{"attach", "blue", "--netns", fifo(l), "--name", "web"}},
		{"a device", []int{2}, []string{"attach", "blue", "--netns", "/dev/null", "--name", "web"}},
		{"a directory", []int{2}, []string{"attach", "blue", "--netns", "..", "--name", "web"}},
		{"a namespace of another kind", []int{2}, []string{"attach", "blue", "--netns", "/proc/self/ns/uts", "--name", "web"}},
		{"unknown namespace", []int{4}, []string{"attach", "blue", "--netns", netns + "x", "--name", "web"}},
		{"unknown process", []int{4}, []string{"attach", "blue", "--pid", "2147483646", "--name", "web"}},
		{"neither namespace nor process", []int{2}, []string{"attach", "blue", "--name", "web"}},
		{"interface that exists", []int{5}, []string{"attach", "blue", "--netns", string(held.NS), "--name", "web", "--ifname", "lo"}},
		{"interface name that sysctl takes for all", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ifname", "all"}},
		{"interface name that is a pattern", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ifname", "eth%d"}},
		{"interface name too long", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--ifname", "sixteen-letters-"}},
		{"port that is no number", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "-p", "http:80"}},
		{"port of another protocol", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "-p", "8080:80/sctp"}},
		{"port of an address that is not here", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "-p", "203.0.113.9:8080:80"}},
		{"port range that does not fit", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "-p", "8080-8082:80-81"}},
		{"unknown endpoint", []int{4}, []string{"endpoint", "inspect", "nobody"}},
		{"removing an unknown network", []int{4}, []string{"network", "rm", "nowhere"}},
		{"inspecting an unknown network", []int{4}, []string{"network", "inspect", "nowhere"}},
		{"an id by its first digit", []int{4}, []string{"endpoint", "inspect", a.ID[:1]}},
		{"a network by its first digits", []int{4}, []string{"network", "inspect", l.Host(1).Network("blue").ID[:3]}},
		{"a container by its first digit", []int{4}, []string{"network", "disconnect", "blue", a.ID[:1]}},
		{"removing a network in use", []int{5}, []string{"network", "rm", "blue"}},
		{"name that begins with a hyphen", []int{2}, []string{"attach", "blue", "--netns", netns, "--name=-web"}},
		{"name with a space", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "a b"}},
		{"name with a slash", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "a/b"}},
		{"name too long", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", strings.Repeat("x", 64)}},
		{"alias that is no label", []int{2}, []string{"attach", "blue", "--netns", netns, "--name", "web", "--alias", "a..b"}},
		{"second init", []int{5}, []string{"init"}},
		{"join as a member", []int{5, 0}, []string{"join", l.Host(2).Addr.String(), "--token-file", l.Host(1).TokenFile()}},
		{"unknown command", []int{2}, []string{"conect"}},
		{"unknown flag", []int{2}, []string{"network", "create", "x", "--sbunet", "10.80.0.0/24"}},
		{"leave with endpoints", []int{5}, []string{"leave"}},
	}
}

// gatewayMAC is the hardware address of blue's gateway, as its endpoint sees it.
func gatewayMAC(l *agenttest.Lab, held *agenttest.Sandbox, a agenttest.Attachment) string {
	held.NS.Run("ping", "-c", "1", "-W", "1", a.Gateway.String())
	words := strings.Fields(held.NS.Run("ip", "neigh", "show", a.Gateway.String()).Stdout)
	return words[slices.Index(words, "lladdr")+1]
}

// The hint of a refused command is the line that works: typed as printed, with values
// for the words in capitals, it does.
func TestHintsOfRefusedCommandsWorkAsPrinted(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	h.CreateNetwork("tiny", "--subnet", "10.78.0.0/30")
	h.Endpoint("tiny", "only")
	held, a := h.Endpoint("blue", "held")
	rows := badInput(l, held, a, string(h.Sandbox("free").NS))
	ends := []string{"leave with endpoints", "second init", "unknown namespace", "removing a network in use"}
	for i, row := range rows {
		if slices.Contains(ends, row.name) {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			r := h.Ctl(row.args...)
			if r.Code == 0 {
				return
			}
			h.TypeAll(t, r, map[string]string{"NAME": fmt.Sprintf("n%d", i), "NETWORK": "blue", "CIDR": fmt.Sprintf("10.200.%d.0/24", i), "x": fmt.Sprintf("x%d", i)})
		})
	}
	hints := agenttest.Hints(h.Ctl("leave")) // the first one waits for the endpoints to go
	if r := h.Type(hints[len(hints)-1], nil); r.Code != 0 {
		t.Errorf("hint %q of leave: %s", hints, r)
	}
}

func TestCommandWithoutAnAgentSaysSo(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	agenttest.WantError(t, l.Host(1).Ctl("status"), 3)
}

func TestHostThatIsNoMember(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2})
	first, second := l.Host(1), l.Host(2)
	for _, h := range l.Hosts {
		h.Start()
	}
	if r := second.Ctl("status"); r.Code != 1 || !strings.Contains(r.Stdout, "not-a-member") {
		t.Errorf("status of a host that is no member: %s", r)
	}
	s := second.Sandbox("early")
	_, r := s.TryAttach("blue", "web")
	agenttest.WantError(t, r, 1, 4, 5)
	agenttest.WantError(t, second.Ctl("network", "create", "blue"), 1, 5)

	first.Init()
	t.Run("init where a cluster is", func(t *testing.T) {
		r := second.Ctl("init")
		agenttest.WantError(t, r, 5)
		if !strings.Contains(r.Stderr, first.Name) {
			t.Errorf("the refusal does not name the member %s: %s", first.Name, r)
		}
	})
	t.Run("join without a token", func(t *testing.T) {
		agenttest.WantError(t, second.Ctl("join", first.Addr.String(), "--token-file", filepath.Join(l.Dir, "none")), 1, 2, 4)
	})
	t.Run("join with a token that is none", func(t *testing.T) {
		agenttest.WantError(t, second.Ctl("join", first.Addr.String(), "--token-file", write(t, "weft1.bm9uc2Vuc2U")), 2)
	})
	t.Run("join with a token of another cluster", func(t *testing.T) {
		other := agenttest.NewLab(t, agenttest.Config{Hosts: 1}).Host(1)
		other.Start()
		other.Init()
		agenttest.WantError(t, second.Ctl("join", first.Addr.String(), "--token-file", other.TokenFile()), 1, 2, 5)
	})
	t.Run("join where nobody is", func(t *testing.T) {
		agenttest.WantError(t, second.Ctl("join", "192.0.2.99", "--token-file", first.TokenFile()), 1, 6)
	})
	t.Run("join while another program has the port", func(t *testing.T) {
		busy, err := second.NS.ListenUDP(netip.AddrPortFrom(second.Addr, 4798))
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		r := second.Ctl("join", first.Addr.String(), "--token-file", first.TokenFile())
		agenttest.WantError(t, r, 1, 5)
		if !strings.Contains(r.Stderr, "4798") {
			t.Errorf("the port is not named: %s", r)
		}
	})
	if r := second.Ctl("status"); !strings.Contains(r.Stdout, "not-a-member") {
		t.Errorf("after the failed joins: %s", r)
	}
	second.Join(first) // and nothing stands in the way of the right one
	first.AwaitMembers(2)
}

// write makes a file with the text.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAgentThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "setpriv", "timeout")
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	limited := func(args ...string) agenttest.Result { return h.NS.Run(append([]string{"timeout", "10"}, args...)...) }
	agentd := h.Agentd()[2:] // without nsenter

	t.Run("without CAP_NET_ADMIN", func(t *testing.T) {
		args := append([]string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"}, agentd...)
		r := limited(append(args, h.Flags()...)...)
		agenttest.WantError(t, r, 7)
		if !strings.Contains(r.Stderr, "CAP_NET_ADMIN") {
			t.Errorf("the capability is not named: %s", r)
		}
		if _, err := os.Stat(h.Fabric.Path()); err == nil {
			t.Errorf("it left the namespace %s", h.Fabric)
		}
	})
	for name, text := range map[string]string{
		"unknown key":      "name: h1\ncolour: red\n",
		"value of no type": "gossip_port: many\n",
		"no YAML":          "\x00\x01{{{",
		"a list":           "- a\n- b\n",
		"no address":       "advertise: nowhere\n",
	} {
		t.Run("configuration: "+name, func(t *testing.T) {
			file := write(t, text)
			agenttest.WantError(t, limited(append(agentd, "--config", file)...), 2)
			agenttest.WantError(t, limited(append(agentd, "config", "check", file)...), 2)
		})
	}
	t.Run("unknown flag", func(t *testing.T) {
		agenttest.WantError(t, limited(append(agentd, "--colour", "red")...), 2)
	})
	t.Run("a second agent in one run directory", func(t *testing.T) {
		h.Start()
		agenttest.WantError(t, limited(append(agentd, h.Flags()...)...), 1, 5)
		h.AwaitAPI() // the first is undisturbed
	})
}

// Random bytes on every port that is open to strangers, and on the API socket:
// the agent answers those who ask properly, before and after.
func TestGarbageOnEveryPortHarmsNobody(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	victim, stranger := l.Host(1), l.Host(2)
	pid := victim.PID()
	gateway := victim.Network("blue").Gateway()
	ping := from[1].StartPing(from[0].Addr)
	start := time.Now()
	random := rand.New(rand.NewChaCha8([32]byte{7}))

	for _, port := range []uint16{4798, 4799} {
		conn, err := stranger.NS.DialUDP(netip.AddrPortFrom(victim.Addr, port))
		if err != nil {
			t.Fatal(err)
		}
		spray(conn, random)
	}
	dns, err := from[0].NS.DialUDP(netip.AddrPortFrom(gateway, 53))
	if err != nil {
		t.Fatal(err)
	}
	spray(dns, random)
	for range 20 {
		pour(t, stranger.NS, netip.AddrPortFrom(victim.Addr, 4798), random)
		pour(t, from[0].NS, netip.AddrPortFrom(gateway, 53), random)
	}
	for _, request := range []string{
		"", "\x00\x01\x02", "GET", "GET / HTTP/9.9\r\n\r\n",
		"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{{{{{",
		"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{}",
		"GET /v1/" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n\r\n",
		"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		garbageRequest(t, victim.Socket(), request)
	}

	if !victim.Running() || victim.PID() != pid {
		t.Errorf("the agent is gone: %s", victim.LogTail(20))
	}
	victim.AwaitMembers(2)
	for _, o := range from {
		agenttest.Eventually(t, 2*time.Second, o.Host.Name+" resolves", o.DNS.Wants(agenttest.FQDN("on-h1", "blue"), from[0].Addr))
	}
	_, a := victim.Endpoint("blue", "after")
	agenttest.Eventually(t, time.Second, "a new endpoint", from[1].DNS.Wants(agenttest.FQDN("after", "blue"), a.Addr()))
	ping.AssertNoLoss(time.Since(start))
}

// spray sends packets of random bytes, of every length up to a full packet.
func spray(conn *net.UDPConn, random *rand.Rand) {
	defer conn.Close()
	for n := range 1400 {
		conn.Write(noise(random, n)) // a refusal of the kernel is no concern of this test
	}
}

// pour sends random bytes over one connection and reads what comes back.
func pour(t *testing.T, from agenttest.Netns, to netip.AddrPort, random *rand.Rand) {
	t.Helper()
	conn, err := from.DialTCP(to)
	if err != nil {
		t.Errorf("%v is closed: %v", to, err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	conn.Write(noise(random, random.IntN(4096)))
	io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// garbageRequest sends bytes to the API socket; a reply, if there is one, must
// be a refusal.
func garbageRequest(t *testing.T, socket, request string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	conn.Write([]byte(request))
	conn.(*net.UnixConn).CloseWrite()
	reply, _ := io.ReadAll(io.LimitReader(conn, 1<<16))
	if len(reply) > 0 && !bytes.HasPrefix(reply, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(reply, []byte("HTTP/1.1 5")) &&
		!bytes.HasPrefix(reply, []byte("HTTP/1.1 3")) {
		t.Errorf("%.60q was answered %.200q", request, reply)
	}
	if bytes.Contains(reply, []byte("root:")) {
		t.Errorf("%.60q showed a file: %s", request, reply)
	}
}
