package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/agent/tunnel/tunneltest"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/pool/embedded"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// flow is a cluster of agents in this process: real agents, pool and leases,
// over gossip and kernels in memory.
type flow struct {
	t       *testing.T
	cluster *discoverytest.Cluster
	store   *embedded.Store
	file    string
	wire    *tunneltest.Wire
	altered func(Pool) Pool // changes the pools that are opened from now on; may be nil
}

// flowHost is one of its hosts, with a kernel that outlives the agent.
type flowHost struct {
	*flow
	*api.Client
	name     string
	addr     netip.Addr
	kernel   *overlaytest.Kernel
	names    flowNames
	dir      string
	data     string // its data directory; empty: dir
	boot     string // of its machine
	agent    *Agent
	noKernel error                         // of opening it
	asks     atomic.Value                  // where the store was asked last, a string
	hang     atomic.Pointer[chan struct{}] // passes wait until it is closed
	looks    atomic.Pointer[chan struct{}] // sandboxes are looked into when it is closed, and found altered
	clings   atomic.Pointer[chan struct{}] // interfaces are not removed until it is closed
	refuses  atomic.Bool                   // to remove interfaces
	refused  atomic.Int32                  // times that it has
	stop     func()
}

func newFlow(t *testing.T) *flow {
	file := filepath.Join(t.TempDir(), "store.db")
	f := &flow{t: t, cluster: discoverytest.New(time.Now(), 1), file: file,
		store: embedded.New(embedded.Config{File: file, Log: slog.New(slog.DiscardHandler)}),
		wire:  tunneltest.NewWire()}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.store.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

// host adds a host with a few sandboxes and starts its agent.
func (f *flow) host(n byte) *flowHost {
	h := &flowHost{flow: f, name: fmt.Sprintf("host%d", n), addr: netip.AddrFrom4([4]byte{192, 0, 2, n}), kernel: overlaytest.New(), dir: f.t.TempDir()}
	h.kernel.AddSandbox("/proc/thread-self/ns/net", 1)
	for i := range uint64(5) {
		h.kernel.AddSandbox(fmt.Sprintf("/run/sandbox/%d", i), 100*uint64(n)+i)
	}
	h.start()
	f.t.Cleanup(func() { h.stop() })
	return h
}

func (h *flowHost) start() {
	cfg := config.Default()
	cfg.Name, cfg.Advertise, cfg.RunDir, cfg.DataDir = h.name, h.addr, h.dir, cmp.Or(h.data, h.dir)
	cfg.Store.Embedded = strings.TrimSuffix(h.file, ".db")
	log := slog.New(slog.DiscardHandler)
	a := Assemble(cfg, h.parts(log), log)
	h.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("%s: run: %v", h.name, err)
		}
	})
	h.agent = a
	h.Client = api.NewClient(cfg.Socket())
	h.eventually("the agent answers", func() error {
		_, err := h.Status(h.t.Context())
		return err
	})
}

func (h *flowHost) parts(log *slog.Logger) Parts {
	return Parts{
		Names: &h.names, Host: flowMachine{h}, Within: flowMachine{h},
		OpenOverlay: func(func(overlay.Repair)) (Overlay, error) {
			return flowKernel{overlay.New(h.kernel, "weft", log), h}, h.noKernel
		},
		OpenPool: func(s config.Store, _, cluster string, refused *strict.Ledger) (Pool, EmbeddedStore, error) {
			made, err := pool.New(pool.Config{HTTPClient: h.store.Client(), Cluster: cluster, Refused: refused, Log: log})
			p := PoolOf(made)
			h.asks.Store(s.Consul)
			p.Address = flowAddress{h}
			if h.altered != nil {
				p = h.altered(p)
			}
			return p, nil, err
		},
		OpenDirectory: func(c gossip.Config) (Directory, error) {
			n, err := h.cluster.Start(discoverytest.Config{Self: c.Self, Incarnation: c.Incarnation, Header: named(c),
				Endpoints: c.Endpoints, Saved: c.Saved, Serve: c.Serve, Forgotten: c.Forgotten})
			if err != nil {
				return nil, err
			}
			h.wire.Add(plan.ProbeMAC(c.Self))
			return flowNode{n, c.Save}, nil
		},
		OpenLeases: func(c ipam.Config) (Leases, error) { return opened[Leases](ipam.New(c)) },
		OpenDB:     datadir.OpenDB,
	}
}

func named(c gossip.Config) discovery.Header {
	h := c.Header
	h.Name, h.Version, h.Nonce = c.Name, c.Version, c.Nonce
	return h
}

// flowAddress notes where a host asks; the store is the same.
type flowAddress struct{ h *flowHost }

func (a flowAddress) UseAddress(at string) error { a.h.asks.Store(at); return nil }
func (a flowAddress) Address() string            { return a.h.asks.Load().(string) }
func (a flowAddress) Close()                     {}

// flowNode is gossip in memory; a host whose agent ends is switched off.
type flowNode struct {
	*discoverytest.Node
	save func([]byte) error
}

// Losses implements Directory: the wires of these tests lose nothing.
func (flowNode) Trouble() gossip.Trouble { return gossip.Trouble{} }

// Stats implements Directory.
func (n flowNode) Stats() gossip.Stats { return gossip.Stats{Stats: n.Node.Stats()} }

func (n flowNode) Run(ctx context.Context) error {
	err := n.Node.Run(ctx)
	return errors.Join(err, n.save(n.Stop()))
}

type flowKernel struct {
	*overlay.Overlay
	h *flowHost
}

// Drops implements Overlay: no packet flows here.
func (flowKernel) Drops() ([]overlay.Drop, error) {
	return []overlay.Drop{{Reason: "spoofed", Packets: 3, Bytes: 180}}, nil
}

// Inspect waits while the host's sandboxes are slow to look into.
func (k flowKernel) Inspect(ctx context.Context, ep overlay.Endpoint) ([]string, error) {
	if slow := k.h.looks.Load(); slow != nil {
		<-*slow
		return []string{"eth0 is down"}, nil
	}
	return k.Overlay.Inspect(ctx, ep)
}

// Set hangs while the host's kernel does.
func (k flowKernel) Set(ctx context.Context, s overlay.State) error {
	if hang := k.h.hang.Load(); hang != nil {
		<-*hang
	}
	return k.Overlay.Set(ctx, s)
}

// Detach hangs while the host's kernel clings to interfaces, and fails while it
// refuses.
func (k flowKernel) Detach(ctx context.Context, id string) error {
	if clings := k.h.clings.Load(); clings != nil {
		<-*clings
	}
	if k.h.refuses.Load() {
		k.h.refused.Add(1)
		return errors.New("device busy")
	}
	return k.Overlay.Detach(ctx, id)
}

func (k flowKernel) Underlay(netip.Addr) (int, string, error) { return 1500, "eth0", nil }

func (k flowKernel) Close() error { return nil }

func (k flowKernel) Needs() []overlay.Need { return nil }

func (k flowKernel) OpenProbe(vni uint32) (tunnel.Socket, error) {
	for _, o := range k.h.objects() {
		if l, ok := o.(overlay.Link); ok && l.Name == overlay.VXLANName(vni) {
			return k.h.wire.Open(l.MAC), nil
		}
	}
	return nil, errors.New("no device yet")
}

func (k flowKernel) OpenBulk(vni uint32) (tunnel.Bulk, error) {
	return nil, errors.New("these hosts have no devices")
}

func (k flowKernel) OpenTap(bool, uint16, uint32) (tunnel.Tap, error) {
	return nil, errors.New("these hosts have no devices")
}

type flowMachine struct{ h *flowHost }

func (flowMachine) Privileged() error { return nil }
func (flowMachine) DefaultAddr() (netip.Addr, error) {
	return netip.Addr{}, errors.New("no default route")
}
func (flowMachine) HasAddr(netip.Addr) (bool, error)              { return true, nil }
func (flowMachine) Addrs() ([]netip.Addr, error)                  { return nil, nil }
func (flowMachine) Routes() ([]netip.Prefix, error)               { return nil, nil }
func (flowMachine) Neighbours() ([]overlay.NeighbourTable, error) { return nil, nil }
func (flowMachine) FabricPath() string                            { return "/run/netns/weft" }
func (flowMachine) Look(string, overlay.Crossing, bool) (overlay.Inside, error) {
	return overlay.Inside{}, errors.New("there are no sandboxes")
}
func (flowMachine) Try(context.Context, string, overlay.Crossing) (overlay.Trial, time.Duration, error) {
	return "", 0, errors.New("there are no sandboxes")
}
func (flowMachine) Ping(context.Context, string, overlay.Echoes) ([]overlay.Echo, error) {
	return nil, errors.New("there are no sandboxes")
}
func (m flowMachine) BootID() string { return "boot " + m.h.boot }

// flowNames keeps the newest zone.
type flowNames struct {
	mu   sync.Mutex
	zone dns.Zone
}

func (n *flowNames) Set(z dns.Zone) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zone = z
}

func (n *flowNames) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (n *flowNames) Problems() []error             { return nil }
func (n *flowNames) Upstreams() dns.Upstreams {
	return dns.Upstreams{Servers: []dns.Upstream{{Addr: netip.MustParseAddrPort("192.0.2.53:53")}}}
}

func (n *flowNames) Stats() dns.Stats { return dns.Stats{Queries: 7} }

func (n *flowNames) Resolve(context.Context, string, string, dns.Scope) (dns.Answer, error) {
	return dns.Answer{}, errors.New("not asked here")
}

func (n *flowNames) has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, net := range n.zone.Networks {
		for _, e := range net.Names {
			if e.Name == name {
				return true
			}
		}
	}
	return false
}

func (h *flowHost) objects() []overlay.Object {
	all, err := h.kernel.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *flowHost) eventually(what string, check func() error) {
	h.t.Helper()
	h.within(10*time.Second, what, check)
}

func (h *flowHost) within(limit time.Duration, what string, check func() error) {
	h.t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	h.t.Fatalf("%s: %s: %v", h.name, what, err)
}

// pair is two hosts in one cluster with a network that both know.
func pair(t *testing.T) (one, two *flowHost) {
	t.Helper()
	f := newFlow(t)
	one, two = f.host(1), f.host(2)
	made, err := one.Init(t.Context(), api.InitRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tok := readToken(t, made.TokenFile)
	if _, err := two.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: tok}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	two.eventually("the network is known", func() error { _, err := two.Network(t.Context(), "blue"); return err })
	return one, two
}

// What all hosts share is given to init, and wins over every host's own.
func TestFlowInitDecidesForAll(t *testing.T) {
	f := newFlow(t)
	one, two := f.host(1), f.host(2)
	if _, err := one.Init(t.Context(), api.InitRequest{TunnelPort: 4798}, nil); api.KindOf(err) != api.KindMisuse {
		t.Errorf("a port twice: %v, want misuse", err)
	}
	if _, err := one.Init(t.Context(), api.InitRequest{Profile: "moon"}, nil); api.KindOf(err) != api.KindMisuse {
		t.Errorf("an unknown profile: %v, want misuse", err)
	}
	made, err := one.Init(t.Context(), api.InitRequest{GossipPort: 5798, TunnelPort: 5799, Profile: "wan"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: readToken(t, made.TokenFile)}, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*flowHost{one, two} {
		text, err := os.ReadFile(filepath.Join(h.dir, "cluster.json"))
		if err != nil {
			t.Fatal(err)
		}
		var got datadir.Cluster
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.GossipPort != 5798 || got.TunnelPort != 5799 || got.Profile != "wan" {
			t.Errorf("%s keeps %s", h.name, text)
		}
	}
}

// A cluster that an earlier release made has a port for WireGuard, in the store and
// on every member's disk: both are read, and neither is lost.
func TestFlowWireGuardPortOfAnEarlierReleaseIsKept(t *testing.T) {
	f := newFlow(t)
	one, two := f.host(1), f.host(2)
	made, err := one.Init(t.Context(), api.InitRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one.stop()
	port := func(object []byte, key string) []byte {
		t.Helper()
		var fields map[string]any
		if err := json.Unmarshal(object, &fields); err != nil {
			t.Fatal(err)
		}
		fields[key] = 5871
		delete(fields, "crc32")
		out, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	file := filepath.Join(one.dir, "cluster.json")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, port(text, "wireguard_port"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	const meta = "http://store/v1/kv/weft/v1/meta"
	res, err := f.store.Client().Get(meta + "?raw")
	if err != nil {
		t.Fatal(err)
	}
	text, err = io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", res.Status, err)
	}
	put, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, meta, bytes.NewReader(port(text, "wg_port")))
	if res, err := f.store.Client().Do(put); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", res, err)
	}

	one.start()
	if _, err := two.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: readToken(t, made.TokenFile)}, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*flowHost{one, two} {
		if text, err := os.ReadFile(filepath.Join(h.dir, "cluster.json")); err != nil || !bytes.Contains(text, []byte("5871")) {
			t.Errorf("%s keeps %s, %v", h.name, text, err)
		}
	}
}

func TestFlowFromAttachToDetach(t *testing.T) {
	one, two := pair(t)
	before := one.kernel.String()
	a, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if !one.names.has("web") {
		t.Error("attach returned before the name is answered here")
	}
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "client"}); err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf("fdb replace %s dev v001000 dst 192.0.2.1", a.MAC)
	two.eventually("the other host has entry and name", func() error {
		if text := two.kernel.String(); !strings.Contains(text, entry) || !two.names.has("web") {
			return fmt.Errorf("no %q or no name:\n%s", entry, text)
		}
		return nil
	})
	again, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"})
	if err != nil || again.ID != a.ID || again.Address != a.Address {
		t.Errorf("attached again: got %+v, %v, want the same endpoint", again, err)
	}
	for range 2 { // the second is the retry of a caller that lost the answer
		if err := one.Detach(t.Context(), "blue", "web"); err != nil {
			t.Fatal(err)
		}
	}
	two.eventually("it is gone there", func() error {
		if text := two.kernel.String(); strings.Contains(text, entry) || two.names.has("web") {
			return errors.New("still there")
		}
		return nil
	})
	if after := one.kernel.String(); strings.Contains(after, " k") != strings.Contains(before, " k") {
		t.Errorf("left over here:\n%s", after)
	}
}

func TestFlowFailedAttachLeavesNothing(t *testing.T) {
	one, two := pair(t)
	refuse := errors.New("the kernel says no")
	one.kernel.Fail = func(o overlay.Object, deleting bool) error {
		if l, ok := o.(overlay.Link); ok && l.Kind == overlay.EndpointPeer && !deleting {
			return refuse
		}
		return nil
	}
	_, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", IP: "10.64.3.3"})
	if err == nil || !strings.Contains(err.Error(), refuse.Error()) {
		t.Fatalf("got %v, want what the kernel said", err)
	}
	one.kernel.Fail = nil
	for _, h := range []*flowHost{one, two} {
		if all, err := h.Endpoints(t.Context(), api.EndpointFilter{All: true}); err != nil || len(all) != 0 {
			t.Errorf("%s knows endpoints %v, %v", h.name, all, err)
		}
	}
	if one.names.has("web") {
		t.Error("the name is answered")
	}
	// The address is free at once: nobody ever used it.
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "web", IP: "10.64.3.3"}); err != nil {
		t.Errorf("the address was not given back: %v", err)
	}
}

func TestFlowRestartTouchesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		lost []string // files that did not survive
	}{{name: "with its directory as it was"}, {name: "without what it knew of others", lost: []string{"view.db"}}} {
		t.Run(tt.name, func(t *testing.T) { restartTouchesNothing(t, tt.lost) })
	}
}

func restartTouchesNothing(t *testing.T, lost []string) {
	one, two := pair(t)
	for h, name := range map[*flowHost]string{one: "web", two: "db"} {
		if _, err := h.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	known := func() error {
		if !one.names.has("db") {
			return errors.New("db is not known")
		}
		return nil
	}
	one.eventually("db is known", known)
	before := one.kernel.String()
	one.stop()
	for _, file := range lost {
		if err := os.Remove(filepath.Join(one.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	one.kernel.Commands()
	one.names = flowNames{}
	one.start()
	one.eventually("db is known again", known)
	one.eventually("everything was read", func() error {
		st, err := one.Status(t.Context())
		if err == nil && st.State != "ok" {
			err = fmt.Errorf("%+v", st.Checks)
		}
		return err
	})
	if after := one.kernel.String(); after != before {
		t.Errorf("the kernel was changed:\n%s\nbefore:\n%s", after, before)
	}
	if done := one.kernel.Commands(); len(done) > 0 {
		t.Errorf("the restarted agent programmed %q", done)
	}
	if e, err := two.Endpoint(t.Context(), "web"); err != nil || e.Status != "live" {
		t.Errorf("web on the other host: %+v, %v", e, err)
	}
}

func TestFlowSandboxThatVanished(t *testing.T) {
	one, two := pair(t)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	gone := func() error {
		if all, err := two.Endpoints(t.Context(), api.EndpointFilter{}); err != nil || len(all) > 0 {
			return fmt.Errorf("%v, %v", all, err)
		}
		return nil
	}
	one.kernel.RemoveSandbox("/run/sandbox/0")
	one.eventually("it goes while the agent runs", gone)

	one.kernel.AddSandbox("/run/sandbox/0", 7)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	one.stop()
	one.kernel.RemoveSandbox("/run/sandbox/0")
	one.kernel.AddSandbox("/run/sandbox/0", 8) // the same path, another namespace
	one.start()
	one.eventually("it goes while no agent runs", gone)
}

func TestFlowLeave(t *testing.T) {
	one, two := pair(t)
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if err := two.Leave(t.Context(), api.LeaveRequest{}, nil); api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "web on blue") {
		t.Fatalf("leave with an endpoint: got %v, want a conflict that names it", err)
	}
	if err := two.Leave(t.Context(), api.LeaveRequest{Purge: true}, nil); err != nil {
		t.Fatal(err)
	}
	if text := two.kernel.String(); text != "" {
		t.Errorf("left over in the kernel:\n%s", text)
	}
	if st, err := two.Status(t.Context()); err != nil || st.State != "not-a-member" {
		t.Errorf("status: %+v, %v", st, err)
	}
	one.eventually("it is seen to have left", func() error {
		all, err := one.Members(t.Context())
		if err != nil || len(all) != 2 || all[1].Status != "left" {
			return fmt.Errorf("%+v, %v", all, err)
		}
		return nil
	})
}

// What cannot be opened is said, and the agent goes on without being a member.
func TestFlowKernelThatCannotBeOpened(t *testing.T) {
	h := newFlow(t).host(1)
	h.noKernel = errors.New("no kernel here")
	_, err := h.Init(t.Context(), api.InitRequest{}, nil)
	if err == nil || !strings.Contains(err.Error(), "no kernel here") {
		t.Errorf("init: %v", err)
	}
	h.noKernel = nil
	if _, err := h.Init(t.Context(), api.InitRequest{}, nil); err != nil {
		t.Errorf("init, once it can be opened: %v", err)
	}
}

// readToken is the token that init left in a file.
func readToken(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
