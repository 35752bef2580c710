package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-net/weft/agent/api"
)

// TestMain runs the tests, or the client that a test has started as another
// user: see asUser.
func TestMain(m *testing.M) {
	if os.Getenv("WEFT_TEST_CLIENT") != "" {
		os.Exit(otherUser())
	}
	goleak.VerifyTestMain(m)
}

// fake is a Service whose answers are fixed. It records the last request.
type fake struct {
	last     any           // what was asked for last
	err      error         // what every call fails with
	progress []string      // lines before the end of long calls
	hold     chan struct{} // Leave waits for it, or for its context
}

func (f *fake) Status(context.Context) (api.Status, error) {
	return api.Status{State: "ok", Name: "host1", Cluster: "0a1b2c3d", Version: "0.1.0", Address: "192.0.2.1",
		Fabric: "/run/netns/weft", PID: 42, Checks: []api.Check{
			{Name: "gossip", State: api.CheckOK, Detail: "2 members"},
			{Name: "store", State: api.CheckWarn, Detail: "away for 3s", Hint: "systemctl start consul"},
		}}, f.err
}

func (f *fake) Version(context.Context) (api.Version, error) {
	return api.Version{Version: "0.1.0", Commit: "abcdef1", Go: "go1.26"}, f.err
}

func (f *fake) steps(progress func(string)) {
	for _, s := range f.progress {
		progress(s)
	}
}

func (f *fake) Init(_ context.Context, r api.InitRequest, progress func(string)) (api.InitResult, error) {
	f.last = r
	f.steps(progress)
	return api.InitResult{Cluster: "0a1b2c3d", TokenFile: "/var/lib/weft/join.token", Join: "agentctl join 192.0.2.1 --token-file join.token"}, f.err
}

func (f *fake) Join(_ context.Context, r api.JoinRequest, progress func(string)) (api.JoinResult, error) {
	f.last = r
	f.steps(progress)
	return api.JoinResult{Cluster: "0a1b2c3d", Members: []string{"host1"}}, f.err
}

func (f *fake) Leave(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	f.last = r
	f.steps(progress)
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fake) Members(context.Context) ([]api.Member, error) {
	return []api.Member{{Name: "host1", ID: "11", Address: "192.0.2.1", Status: "alive", Version: "0.1.0"},
		{Name: "host2", ID: "22", Address: "192.0.2.2", Status: "dead", Version: "0.1.0", RTT: 0.25}}, f.err
}

func (f *fake) Proofs(_ context.Context, refresh bool) ([]api.Proof, error) {
	f.last = refresh
	return []api.Proof{{Peer: "host2", Shares: true, Out: "ok", In: "failing", Size: "unproven", Bulk: "ok", MTU: 1500, Last: 120, Median: 130, Worst: 900, Loss: 2.5,
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Why: "4799/udp is blocked from host2 to host1", Hint: "nft list ruleset"}}, f.err
}

// network has nil lists where a Service may well leave them nil.
func network(name string) api.Network {
	return api.Network{Name: name, ID: "ab12", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Scope: "global", Driver: "weft",
		IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{{Subnet: "10.64.0.0/20", Gateway: "10.64.0.1", IPRange: "10.64.1.0/24",
			AuxiliaryAddresses: map[string]string{"router": "10.64.0.254"}, Addresses: 4093, Blocks: map[string][]string{"host1": {"10.64.0.0/27"}}}}},
		VNI: 42, MTU: 1450, State: "up", Containers: map[string]api.Container{"e1": {Name: "web", EndpointID: "e1",
			MacAddress: "0e:00:0a:40:00:05", IPv4Address: "10.64.0.5/20", Host: "host1"}}}
}

func (f *fake) NetworkCreate(_ context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	f.last = r
	return api.NetworkCreateResult{Network: network(r.Name), Warnings: []string{"subnet 198.18.0.0/15 is neither private nor for documentation"}}, f.err
}

func (f *fake) Networks(context.Context) ([]api.Network, error) {
	return []api.Network{network("blue"), {Name: "red", ID: "cd34", Scope: "global", Driver: "weft", State: "deleting"}}, f.err
}

func (f *fake) Network(_ context.Context, n string) (api.Network, error) {
	f.last = n
	return network(n), f.err
}

func (f *fake) NetworkRemove(_ context.Context, n string, force bool) error {
	f.last = []any{n, force}
	return f.err
}

func (f *fake) NetworkPrune(_ context.Context, r api.PruneRequest) (api.PruneResult, error) {
	f.last = r
	return api.PruneResult{Deleted: []string{"blue"}, Failures: []api.Error{{Kind: api.KindTimeout, Message: "network prune: red: a host holds addresses", Hint: "agentctl members"}}}, f.err
}

func (f *fake) Why(_ context.Context, r api.WhyRequest) (api.Why, error) {
	f.last = r
	return api.Why{Sentence: "web cannot reach db: eth0 in db is down", Hint: "ip link set eth0 up", Steps: []api.WhyStep{{Step: "sandbox of db", Host: "host2", State: "broken", Evidence: "eth0 in db is down"}}}, f.err
}

func (f *fake) Ping(_ context.Context, r api.PingRequest) (api.Ping, error) {
	f.last = r
	return api.Ping{From: "web", To: "db", Address: "10.64.0.5", Host: "host2", Way: "tunnel to host2", Sent: 2, Received: 1, Loss: 50, Least: 300, Mean: 300, Most: 300,
		Replies: []api.PingReply{{Seq: 1, State: "answered", RTT: 300}, {Seq: 2, State: "no answer"}}}, f.err
}

func (f *fake) Test(_ context.Context, r api.TestRequest, progress func(string)) (api.Test, error) {
	f.last = r
	for _, p := range f.progress {
		progress(p)
	}
	return api.Test{ID: "0a1b2c3d", Passed: 1, Failed: 1, Took: 1200, Hosts: []string{"host1", "host2"}, Checks: []api.TestCheck{
		{Name: "pair/tcp/host1-host2", State: "passed", Host: "host1", Took: 3}, {Name: "size/full/host1-host2", State: "failed", Host: "host1", Took: 5000, Why: "no answer", Hint: "agentctl members"}},
		Perf: []api.TestPerf{{From: "host1", To: "host2", Rate: 940.5, RTT: 310, Underlay: 990, Beside: 250}}, Unasked: []api.Unasked{{Host: "host3", Why: "it is dead"}}}, f.err
}

func (f *fake) Mesh(_ context.Context, refresh bool) (api.Mesh, error) {
	f.last = refresh
	return api.Mesh{Hosts: []string{"host1"}, Ways: []api.MeshWay{{From: "host1", State: "ok", Proof: api.Proof{Peer: "host2", Out: "ok", In: "ok", Size: "ok", Bulk: "ok"}}},
		Unasked: []api.Unasked{{Host: "host2", Why: "it does not answer"}}}, f.err
}

func (f *fake) Verify(_ context.Context, r api.VerifyRequest) (api.Verification, error) {
	f.last = r
	return api.Verification{Checked: 2, Drift: []api.Drift{{Object: "ip -n weft link set v00002a up", Kind: "different", Network: "blue", Host: "host1", Repaired: r.Repair}},
		Unasked: []api.Unasked{{Host: "host2", Why: "it does not answer"}}}, f.err
}

func (f *fake) Doctor(context.Context) ([]api.Finding, error) {
	return []api.Finding{{ID: "conntrack", State: api.CheckOK, Subject: "nf_conntrack", Evidence: "3 connections are tracked, at most 65536"},
		{ID: "resolvers", State: api.CheckWarn, Subject: "192.0.2.53", Evidence: "0 of 1 answer", Hint: "dig @192.0.2.53 . NS", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}, f.err
}

func (f *fake) Bundle(_ context.Context, all bool) ([]byte, error) {
	f.last = all
	return []byte("\x1f\x8b archive\x00\xff"), f.err
}

func (f *fake) Metrics(context.Context) ([]byte, error) {
	return []byte("# TYPE weft_info gauge\nweft_info 1\n"), f.err
}

func (f *fake) EndpointHistory(_ context.Context, word, at string) (api.EndpointHistory, error) {
	f.last = []string{word, at}
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return api.EndpointHistory{Spans: []api.EndpointSpan{{Name: "web", ID: "e1", Network: "blue", Address: "10.64.0.5", Host: "host1", From: from, By: "root (uid 0)"},
		{Name: "old", ID: "e0", Network: "blue", Address: "10.64.0.5", Host: "host1", To: from, EndedBy: "docker", Why: "its sandbox is gone"}},
		Unasked: []api.Unasked{{Host: "host2", Why: "it is dead"}}}, f.err
}

// someEvents are what Events of a fake finds.
var someEvents = []api.EventItem{
	{Event: &api.Event{At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Host: "host1", Kind: "endpoint-attached", Subject: "web", Network: "blue", Endpoint: "e1", Addr: "10.64.0.5",
		By: "root (uid 0)", Text: "a\nb: <c>", Detail: map[string]any{"mac": "0e:00:0a:40:00:05"}}, Cursor: "host1:7"},
	{Unasked: &api.Unasked{Host: "host2", Why: "it is dead"}},
	{Event: &api.Event{At: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), Host: "host3", Kind: "member-dead"}, Cursor: "host1:7,host3:9"},
}

func (f *fake) Events(_ context.Context, q api.EventQuery, each func(api.EventItem) error) error {
	f.last = q
	for i, item := range someEvents {
		if f.err != nil && (i > 0 || len(f.progress) == 0) {
			return f.err
		}
		if err := each(item); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Connect(_ context.Context, r api.ConnectRequest) (api.Attachment, error) {
	f.last = r
	return api.Attachment{ID: "e2", Name: r.Container, Network: r.Network, Address: "10.64.16.5/20", MAC: "0e:01:0a:40:10:05", MTU: 1450, Interface: "eth1"}, f.err
}

func (f *fake) Disconnect(_ context.Context, r api.DisconnectRequest) error {
	f.last = r
	return f.err
}

func (f *fake) Attach(_ context.Context, r api.AttachRequest) (api.Attachment, error) {
	f.last = r
	return api.Attachment{ID: "e1", Name: r.Name, Network: r.Network, Address: "10.64.0.5/20", Gateway: "10.64.0.1", MAC: "0e:00:0a:40:00:05",
		MTU: 1450, Interface: "eth0", Notices: []string{"ports are not published"}}, f.err
}

func (f *fake) Detach(_ context.Context, n, e string) error {
	f.last = []string{n, e}
	return f.err
}

func (f *fake) DetachContainer(_ context.Context, c api.ContainerRef) error {
	f.last = c
	return f.err
}

func endpoint(name string) api.Endpoint {
	return api.Endpoint{ID: "e1", Name: name, Network: "blue", Address: "10.64.0.5/20", MAC: "0e:00:0a:40:00:05", Host: "host1",
		Status: "live", Runtime: "netns", Sandbox: "/run/netns/web", Interface: "eth0", Container: "c1", Labels: map[string]string{"team": "a"}}
}

func (f *fake) Endpoints(_ context.Context, filter api.EndpointFilter) ([]api.Endpoint, error) {
	f.last = filter
	return []api.Endpoint{endpoint("web")}, f.err
}

func (f *fake) Endpoint(_ context.Context, n string) (api.Endpoint, error) {
	f.last = n
	return endpoint(n), f.err
}

func (f *fake) Query(_ context.Context, q api.DNSQuery) (api.DNSAnswer, error) {
	f.last = q
	return api.DNSAnswer{Rcode: "NOERROR", Answer: []string{"web.blue.weft.internal.\t5\tIN\tA\t10.64.0.5"},
		Authority: []string{"blue.weft.internal.\t5\tIN\tNS\tns.weft.internal."}, Values: []string{"10.64.0.5"}, Took: 0.02}, f.err
}

// serve runs an agent's API on a socket of its own until the test ends.
func serve(t testing.TB, s api.Service) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "agentd.sock")
	l, err := api.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, s)
	return socket
}

func serveOn(t testing.TB, l net.Listener, s api.Service) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, s, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

var errConflict = fmt.Errorf("attach web: %w", api.Errorf(api.KindConflict, "10.64.0.5 is host2's").WithHint("agentctl endpoint ls --host host2"))
