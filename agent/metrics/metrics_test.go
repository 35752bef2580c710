package metrics

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/table"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

func netID(n byte) discovery.NetworkID { return discovery.NetworkID{1, n} }

// cluster is host1 among hosts, with endpoints on as many networks, spread evenly.
func cluster(hosts, networks, endpoints int) *Member {
	m := &Member{View: discovery.View{Self: discovery.HostID{1}, Complete: true}}
	for i := range hosts {
		o := discovery.Member{ID: discovery.HostID{byte(i + 1)}, Name: fmt.Sprintf("host%d", i+1), Status: discovery.StatusAlive, RTT: time.Millisecond}
		m.View.Members = append(m.View.Members, o)
	}
	for i := range networks {
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i * 16), 0}), 20)
		m.Networks = append(m.Networks, discovery.Network{ID: netID(byte(i)), Name: fmt.Sprintf("net%d", i), Subnets: []discovery.Subnet{{CIDR: cidr, Gateway: cidr.Addr().Next()}}})
		m.Blocks = append(m.Blocks, discovery.HeaderNetwork{ID: netID(byte(i)), Blocks: []netip.Prefix{netip.PrefixFrom(cidr.Addr(), 24)}})
	}
	for i := range endpoints {
		id, network := discovery.EndpointID{byte(i), byte(i >> 8), byte(i >> 16)}, netID(byte(i%networks))
		r := discovery.Record{Endpoint: discovery.Endpoint{ID: id, Name: fmt.Sprintf("web%d", i), Network: network, Runtime: discovery.RuntimeDocker},
			Host: discovery.HostID{byte(i%hosts + 1)}}
		m.View.Endpoints = append(m.View.Endpoints, r)
		if r.Host == m.View.Self {
			m.Leases = append(m.Leases, ipam.Owned{Network: network, Owner: id})
		}
	}
	return m
}

func written(t testing.TB, f Facts) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// whole is facts with a value in each place.
func whole() Facts {
	m := cluster(2, 1, 4)
	m.Active = 1
	m.Tunnels = []tunnel.Proof{
		{Name: "host2", Alive: true, Out: tunnel.OK, In: tunnel.Failing, Bulk: tunnel.Unproven, MTU: 1400, Median: 2 * time.Millisecond, Loss: 12.5, At: time.Unix(1700000000, 0)},
		{Name: "host3", Alive: true, Out: tunnel.Stale, In: tunnel.Stale, Bulk: tunnel.Failing},
		{Name: "host9", Out: tunnel.OK, In: tunnel.OK, At: time.Unix(1, 0)},
	}
	m.View.Members = append(m.View.Members, discovery.Member{ID: discovery.HostID{9}, Name: "host9", Status: discovery.StatusDead})
	m.View.Members[1].Header.Networks = []discovery.HeaderNetwork{{ID: netID(0), Blocks: make([]netip.Prefix, 2)}}
	m.Gossip = gossip.Stats{Received: 11, Sent: 12, SentBytes: 3000, Junk: 2, Rejoins: 1, Stats: table.Stats{Pulls: 5, Digests: 6, Gaps: 1}}
	m.Pool = pool.Stats{Requests: 9, Errors: 1, Timed: 4, Took: 2 * time.Second, Answered: time.Unix(1700000000, 500e6)}
	m.Overlay = overlay.Stats{Passes: 30, Failed: 1, Took: 3 * time.Second, Changes: []overlay.Change{{Kind: "fdb", Put: 5, Deleted: 2, Repaired: 1}}}
	m.Drops = []overlay.Drop{{Reason: "spoofed", Packets: 3, Bytes: 180}}
	one := endpoint.Durations{Runtime: "docker", Count: 3, Sum: 300 * time.Millisecond, Failed: 1}
	one.Ranges[2], one.Ranges[len(endpoint.Bounds)] = 2, 1
	m.Endpoints = endpoint.Stats{Attached: []endpoint.Durations{one}, Detached: []endpoint.Durations{one}}
	return Facts{
		Build:  api.Version{Version: "1.2.3", Commit: "abcdef1", Go: "go1.26"},
		Status: api.Status{State: "degraded", Checks: []api.Check{{Name: "store", State: api.CheckFail}, {Name: "table", State: api.CheckOK}, {Name: "table", State: api.CheckWarn}}},
		Names: dns.Stats{Queries: 100, Forwarded: 10, Failed: 1, Conns: 4,
			Replies: []dns.Replies{{Network: "net0", Type: "A", Rcode: "NOERROR", Count: 80}, {Network: "", Type: "PTR", Rcode: "NXDOMAIN", Count: 2}}},
		Upstreams: []dns.Upstream{{Addr: netip.MustParseAddrPort("192.0.2.53:53"), Answers: 9, Took: 90 * time.Millisecond, Errors: 1}},
		Member:    m,
	}
}

func TestAScrapeSaysTheFacts(t *testing.T) {
	text := written(t, whole())
	for _, want := range []string{
		`weft_build_info{commit="abcdef1",go="go1.26",version="1.2.3"} 1`,
		`weft_status{state="degraded"} 1`, `weft_status{state="ok"} 0`,
		`weft_check{check="store"} 2`, `weft_check{check="table"} 1`,
		`weft_members{state="alive"} 2`, `weft_members{state="dead"} 1`, `weft_members{state="suspect"} 0`,
		`weft_tunnel_up{direction="out",peer="host2"} 1`, `weft_tunnel_up{direction="in",peer="host2"} 0`, `weft_tunnel_bulk_up{peer="host3"} 0`,
		`weft_tunnel_mtu_bytes{peer="host2"} 1400`, `weft_tunnel_rtt_seconds{peer="host2"} 0.002`, `weft_tunnel_loss_ratio{peer="host2"} 0.125`, `weft_tunnel_proven_timestamp_seconds{peer="host2"} 1.7e+09`,
		`weft_peer_rtt_seconds{peer="host2"} 0.001`, `weft_table_complete 1`,
		`weft_endpoints{network="net0",runtime="docker"} 2`, `weft_network_endpoints{network="net0"} 4`, `weft_network_addresses{network="net0"} 4093`,
		`weft_addresses{network="net0",state="used"} 2`, `weft_addresses{network="net0",state="free"} 254`,
		`weft_blocks{holder="here",network="net0"} 1`, `weft_blocks{holder="others",network="net0"} 2`, `weft_networks_active 1`,
		`weft_gossip_messages_total{direction="sent"} 12`, `weft_gossip_bytes_total{direction="sent"} 3000`, `weft_gossip_errors_total{reason="junk"} 2`, `weft_gossip_repairs_total{kind="pull"} 5`,
		`weft_pool_requests_total 9`, `weft_pool_errors_total 1`, `weft_pool_request_seconds_sum 2`, `weft_pool_request_seconds_count 4`, `weft_pool_last_answer_timestamp_seconds 1.7000000005e+09`,
		`weft_reconcile_seconds_count 30`, `weft_reconcile_failed_total 1`,
		`weft_kernel_objects_total{change="put",kind="fdb"} 5`, `weft_kernel_objects_total{change="delete",kind="fdb"} 2`, `weft_repairs_total{kind="fdb"} 1`,
		`weft_dropped_packets_total{reason="spoofed"} 3`, `weft_dropped_bytes_total{reason="spoofed"} 180`,
		`weft_attach_seconds_bucket{runtime="docker",le="0.01"} 0`, `weft_attach_seconds_bucket{runtime="docker",le="0.02"} 2`,
		`weft_attach_seconds_bucket{runtime="docker",le="10"} 2`, `weft_attach_seconds_bucket{runtime="docker",le="+Inf"} 3`, `weft_attach_failed_total{runtime="docker"} 1`,
		`weft_detach_seconds_count{runtime="docker"} 3`,
		`weft_dns_queries_total 100`, `weft_dns_replies_total{network="net0",rcode="NOERROR",type="A"} 80`, `weft_dns_replies_total{network="",rcode="NXDOMAIN",type="PTR"} 2`,
		`weft_dns_trouble_total{reason="upstream"} 1`, `weft_dns_tcp_connections_total{result="taken"} 4`,
		`weft_dns_upstream_seconds_count{upstream="192.0.2.53:53"} 9`, `weft_dns_upstream_errors_total{upstream="192.0.2.53:53"} 1`, `weft_dns_upstream_up{upstream="192.0.2.53:53"} 1`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, unknown := range []string{`weft_tunnel_up{direction="out",peer="host3"`, `weft_tunnel_bulk_up{peer="host2"`, `weft_tunnel_rtt_seconds{peer="host3"`, `peer="host9"`} {
		if strings.Contains(text, unknown) {
			t.Errorf("a line %s, of which nothing is known", unknown)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// What no member has is not there, rather than zero.
func TestAHostThatIsNoMemberSaysSo(t *testing.T) {
	text := written(t, Facts{Status: api.Status{State: "not-a-member", Checks: []api.Check{{Name: "membership", State: api.CheckFail}}}})
	for _, want := range []string{`weft_status{state="not-a-member"} 1`, `weft_check{check="membership"} 2`} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(text, "weft_members") || strings.Contains(text, "weft_pool") {
		t.Error("a host that is no member has members")
	}
}

// lines are the series of a scrape that are weft's.
func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "weft_") {
			out = append(out, line)
		}
	}
	return out
}

// Ten thousand endpoints make as many series as ten do, and one scrape of them costs
// little more than a tenth of what a scrape may.
func TestEndpointsMakeNoSeries(t *testing.T) {
	few, many := whole(), whole()
	few.Member, many.Member = cluster(20, 10, 200), cluster(20, 10, 10_000)
	a, b := len(lines(written(t, few))), len(lines(written(t, many)))
	if a != b {
		t.Errorf("%d series with 200 endpoints, %d with 10000", a, b)
	}
	began, best := time.Now(), time.Hour
	for range 20 {
		start := time.Now()
		written(t, many)
		best = min(best, time.Since(start))
	}
	t.Logf("%d series; the fastest of 20 scrapes took %s, all %s", b, best, time.Since(began))
	if best > 50*time.Millisecond {
		t.Errorf("a scrape takes %s, at most 50 ms", best)
	}
}

// The table of the manual has each series, and no other.
func TestEverySeriesIsDocumented(t *testing.T) {
	var code []byte
	for _, file := range []string{"series.go", "tunnels.go"} {
		more, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code = append(code, more...)
	}
	text, err := os.ReadFile("../../examples/metrics/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var have, told []string
	for _, m := range regexp.MustCompile(`series\("([a-z_]+)"`).FindAllSubmatch(code, -1) {
		have = append(have, "weft_"+string(m[1]))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(weft_[a-z_]+)").FindAllSubmatch(text, -1) {
		told = append(told, string(m[1]))
	}
	slices.Sort(have)
	slices.Sort(told)
	if len(have) < 30 || !slices.Equal(have, told) {
		t.Errorf("series %q\ntold   %q", have, told)
	}
}

// Whom an alert wakes finds what to do under its name, in the manual that the alert
// names.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	rules, err := os.ReadFile("../../examples/metrics/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../cmd/manual/weft-operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, runbook, _ := strings.Cut(string(manual), "\n## RUNBOOK\n")
	runbook, _, _ = strings.Cut(runbook, "\n## ")
	var alerts, told []string
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n.*?runbook: "([^\n]*)"`).FindAllSubmatch(rules, -1) {
		alerts = append(alerts, string(m[1]))
		if !strings.HasSuffix(string(m[2]), " More: weft-operations(7), "+string(m[1])+".") {
			t.Errorf("the alert %s does not name its section: %s", m[1], m[2])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)\n\n.+\n(?:.+\n)*\n1\. `).FindAllStringSubmatch(runbook, -1) {
		told = append(told, m[1])
	}
	if len(alerts) < 10 || !slices.Equal(alerts, told) {
		t.Errorf("alerts   %q\nsections %q, each with what it means and numbered steps", alerts, told)
	}
}

func BenchmarkScrape(b *testing.B) {
	f := whole()
	f.Member = cluster(20, 10, 10_000)
	for b.Loop() {
		written(b, f)
	}
}
