package bench_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// The benchmarks compare the product with what one would use instead, on the
// same machine at the same time. Run them by `make bench`; each prints a table.

// Attaching, with the lease written to disk and the name announced, against
// Debian's CNI plugins bridge and host-local, which do neither tunnel nor name.
func BenchmarkAttach(b *testing.B) {
	agenttest.Need(b, "/usr/lib/cni/bridge", "/usr/lib/cni/host-local")
	l := agenttest.NewCluster(b, agenttest.Config{})
	h := l.Host(1)
	h.CreateNetwork("blue")
	from := l.Observers("blue")
	guest := h.Sandbox("guest")
	plugin := newCNI(b, h, h.Sandbox("cni"))

	weft := &agenttest.Side{Name: "agentctl attach", Measure: func() float64 {
		start := time.Now()
		a := guest.Attach("blue", "guest")
		took := time.Since(start)
		if err := from[0].DNS.Wants(agenttest.FQDN("guest", "blue"), a.Addr())(); err != nil {
			b.Errorf("after attach: %v", err)
		}
		guest.Detach("blue", "guest")
		return milliseconds(took)
	}}
	cni := &agenttest.Side{Name: "CNI bridge + host-local ADD", Measure: func() float64 {
		took := plugin.call("ADD")
		plugin.call("DEL")
		return milliseconds(took)
	}}
	for range b.N {
		agenttest.Interleave(agenttest.Pairs(b), weft, cni)
	}
	b.Log("\n" + agenttest.Table("attach", "ms", []agenttest.Bound{{Against: cni.Name, Ratio: 1}}, weft, cni))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// From the moment when attach returns on one host until the name is answered on
// the other. The limit is one datagram there and one question asked.
func BenchmarkName(b *testing.B) {
	l := agenttest.NewCluster(b, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	all := l.Observers("blue")
	mover, from := l.Host(1).Sandbox("mover"), all[1].DNS
	n := 0
	name := &agenttest.Side{Name: "weft", Measure: func() float64 {
		n++
		name := fmt.Sprintf("c%d", n)
		a := mover.Attach("blue", name)
		defer mover.Detach("blue", name)
		return milliseconds(agenttest.Eventually(b, 5*time.Second, "the name on the other host", from.Wants(agenttest.FQDN(name, "blue"), a.Addr())))
	}}
	limit := &agenttest.Side{Name: "one question", Measure: func() float64 {
		start := time.Now()
		if err := from.Wants(agenttest.FQDN("on-h1", "blue"), all[0].Addr)(); err != nil {
			b.Fatal(err)
		}
		return milliseconds(time.Since(start))
	}}
	for range b.N {
		agenttest.Interleave(200, name, limit)
	}
	b.Logf("p99 %.2f ms", name.Percentile(0.99))
	b.Log("\n" + agenttest.Table("name on the other host after attach", "ms", nil, name, limit))
}

// cniPlugin is a CNI plugin with a configuration for one sandbox.
type cniPlugin struct {
	b       *testing.B
	host    *agenttest.Host
	sandbox *agenttest.Sandbox
	path    string
	config  string
}

func newCNI(b *testing.B, h *agenttest.Host, s *agenttest.Sandbox) cniPlugin {
	return cniPlugin{b, h, s, "/usr/lib/cni/bridge", fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "bench", "type": "bridge",
		"bridge": "cnibench", "isGateway": true, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": "10.99.0.0/16"}]]}}`, filepath.Join(h.Dir, "cni"))}
}

func (c cniPlugin) call(command string) time.Duration {
	c.b.Helper()
	args := c.host.NS.Enter("env", "CNI_COMMAND="+command, "CNI_CONTAINERID=bench", "CNI_NETNS="+c.sandbox.NS.Path(),
		"CNI_IFNAME=eth0", "CNI_PATH="+filepath.Dir(c.path), c.path)
	start := time.Now()
	if r := agenttest.Run(c.config, args...); r.Code != 0 {
		c.b.Fatalf("%s", r)
	}
	return time.Since(start)
}

// path is a way from one sandbox to another that is measured.
type path struct {
	name     string
	from, to *agenttest.Sandbox
	addr     netip.Addr
}

// paths makes the four ways between two hosts: through the product, through the
// same devices and rules made by hand, through bare devices between hosts
// without any rules, and without a tunnel.
func paths(b *testing.B) []path {
	l := agenttest.NewLab(b, agenttest.Config{Hosts: 4})
	one, two, three, four := l.Host(1), l.Host(2), l.Host(3), l.Host(4)
	one.Start()
	two.Start()
	one.Init()
	two.Join(one)
	one.CreateNetwork("blue")
	from, a := one.Endpoint("blue", "one")
	to, at := two.Endpoint("blue", "two")
	ruled := l.HandWire(one, two, &agenttest.Endpoint{Sandbox: from, Attachment: a},
		&agenttest.Endpoint{Sandbox: to, Attachment: at})
	bare := l.HandWire(three, four, nil, nil)
	return []path{
		{"weft", from, to, at.Addr()},
		{"by hand, the same rules", ruled.One, ruled.Two, ruled.AddrTwo},
		{"by hand, no rules", bare.One, bare.Two, bare.AddrTwo},
		{"underlay", &agenttest.Sandbox{NS: three.NS, Host: three}, &agenttest.Sandbox{NS: four.NS, Host: four}, four.Addr},
	}
}

// meter measures a path: a server at its end, and a client that prints a figure.
type meter struct {
	server func(path) []string
	client func(path) []string
	figure func(output string) (float64, error)
}

// compare measures every path in turn and prints the table.
func compare(b *testing.B, what, unit string, bound agenttest.Bound, m meter) {
	var sides []*agenttest.Side
	for _, p := range paths(b) {
		if err := p.from.PingOnce(p.addr); err != nil {
			b.Fatalf("%s: %v", p.name, err)
		}
		p.to.Background(m.server(p)...)
		sides = append(sides, &agenttest.Side{Name: p.name, Measure: func() (figure float64) {
			agenttest.Eventually(b, 10*time.Second, what+": "+p.name, func() error { // the server may be starting
				r := p.from.NS.Run(m.client(p)...)
				if r.Code != 0 {
					return fmt.Errorf("%s", r)
				}
				var err error
				figure, err = m.figure(r.Stdout)
				return err
			})
			return figure
		}})
	}
	for range b.N {
		agenttest.Interleave(agenttest.Pairs(b), sides...)
	}
	b.Log("\n" + agenttest.Table(what, unit, []agenttest.Bound{bound}, sides...))
}

func BenchmarkThroughput(b *testing.B) {
	agenttest.Need(b, "iperf3")
	compare(b, "TCP, one stream, between two hosts", "Gbit/s",
		agenttest.Bound{Against: "by hand, the same rules", Ratio: 0.95, AtLeast: true},
		meter{
			server: func(path) []string { return []string{"iperf3", "-s"} },
			client: func(p path) []string { return []string{"iperf3", "-c", p.addr.String(), "-t", "1", "-J"} },
			figure: func(output string) (float64, error) {
				var result struct {
					End struct {
						Received struct {
							BitsPerSecond float64 `json:"bits_per_second"`
						} `json:"sum_received"`
					} `json:"end"`
				}
				err := json.Unmarshal([]byte(output), &result)
				if err == nil && result.End.Received.BitsPerSecond == 0 {
					err = fmt.Errorf("nothing was received: %s", output)
				}
				return result.End.Received.BitsPerSecond / 1e9, err
			},
		})
}

var sockperfMedian = regexp.MustCompile(`percentile 50\.000 = +([0-9.]+)`)

func BenchmarkRoundTrip(b *testing.B) { roundTrip(b, "UDP") }

func BenchmarkRoundTripTCP(b *testing.B) { roundTrip(b, "TCP", "--tcp") }

func roundTrip(b *testing.B, protocol string, flags ...string) {
	agenttest.Need(b, "sockperf")
	sockperf := func(command string, p path, more ...string) []string {
		return slices.Concat([]string{"sockperf", command, "-i", p.addr.String(), "-p", "11111"}, flags, more)
	}
	compare(b, protocol+" round trip between two hosts", "us",
		agenttest.Bound{Against: "by hand, the same rules", Ratio: 1.05},
		meter{
			server: func(p path) []string { return sockperf("server", p) },
			client: func(p path) []string { return sockperf("ping-pong", p, "-t", "1", "--full-rtt") },
			figure: func(output string) (float64, error) {
				m := sockperfMedian.FindStringSubmatch(output)
				if m == nil {
					return 0, fmt.Errorf("no median in %s", output)
				}
				return strconv.ParseFloat(m[1], 64)
			},
		})
}

// residentMemory is the agent's VmRSS in MiB.
func residentMemory(b *testing.B, h *agenttest.Host) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(kib)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(n) / 1024
		}
	}
	b.Fatalf("no VmRSS in %s", status)
	return 0
}
