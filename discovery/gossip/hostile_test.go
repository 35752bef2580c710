package gossip

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// hostile is what a member that was broken into is told to do, in JSON.
type hostile struct {
	Dir     string              // data directory of the host that it was
	At      netip.AddrPort      // gossip port of it
	Peers   []netip.AddrPort    // other members
	Network discovery.NetworkID // of the endpoints
	Gateway netip.Addr          // of the network
	Victim  netip.Addr          // an endpoint of another host
	MAC     discovery.MAC       // of the victim
	Free    netip.Addr          // an address of the network that nobody has
}

// TestHostileMember is no test: the tests of whole hosts run it as a program, which
// uses this package as an intruder would, until it gets SIGTERM.
func TestHostileMember(t *testing.T) {
	text := os.Getenv("WEFT_HOSTILE")
	if text == "" {
		return
	}
	var h hostile
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	g, err := h.open()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	for ctx.Err() == nil {
		if _, err := g.Join(ctx, h.Peers, nil); err == nil || g.replica.silent() {
			break
		}
	}
	h.lie(g)
	for round := 0; ctx.Err() == nil; round++ {
		h.shout(g, round)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // the pace of the attack
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// open makes a member of what the host's disk holds.
func (h hostile) open() (*Gossip, error) {
	var host struct {
		ID          discovery.HostID `json:"id"`
		Incarnation uint64           `json:"incarnation"`
		Name        string           `json:"name"`
	}
	var cluster struct {
		ID   discovery.HostID `json:"id"`
		Keys [][]byte         `json:"keys"`
	}
	for name, into := range map[string]any{"host.json": &host, "cluster.json": &cluster} {
		b, err := os.ReadFile(filepath.Join(h.Dir, name))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, into); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return New(Config{Self: host.ID, Name: host.Name, Version: "v0", Incarnation: host.Incarnation + 100, Nonce: 1,
		Bind: h.At, Cluster: cluster.ID, Keys: cluster.Keys, Header: discovery.Header{VTEP: h.At.Addr(), MTU: 576}})
}

// lie announces what may not be programmed, and far too much.
func (h hostile) lie(g *Gossip) {
	n := byte(0)
	bad := func(name string, a netip.Addr, mac discovery.MAC) discovery.Endpoint {
		n++
		return discovery.Endpoint{ID: discovery.EndpointID{0xbad & 0xff, n}, Network: h.Network, IPv4: a, MAC: mac, Seq: math.MaxUint64, Name: name, Runtime: "netns"}
	}
	own := func(i int) discovery.MAC { return discovery.MAC{2, 0xbd, 0, 0, byte(i >> 8), byte(i)} }
	var all []discovery.Endpoint
	for i, a := range []netip.Addr{h.Gateway, h.Victim, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("224.0.0.1"), h.Peers[0].Addr()} {
		all = append(all, bad("bad", a, own(i)))
	}
	for _, mac := range []discovery.MAC{{}, {255, 255, 255, 255, 255, 255}, h.MAC} {
		all = append(all, bad("bad", h.Free, mac))
	}
	for i := range 100_000 {
		e := bad("many", netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), own(i))
		binary.BigEndian.PutUint32(e.ID[2:], uint32(i))
		all = append(all, e)
	}
	g.Announce(all, nil)
	g.SetHeader(func(h *discovery.Header) {
		h.Avoid = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		h.Networks = []discovery.HeaderNetwork{{VNI: 4096}}
	})
}

// shout sends what only says something at the moment: others' ends, invented hosts,
// another address every time.
func (h hostile) shout(g *Gossip, round int) {
	vteps := []netip.Addr{h.At.Addr(), h.Peers[0].Addr(), netip.MustParseAddr("198.51.100.66"), netip.MustParseAddr("224.0.0.1")}
	g.SetHeader(func(o *discovery.Header) { o.VTEP = vteps[round%len(vteps)] })
	for _, p := range g.View().Members {
		if p.ID == g.cfg.Self {
			continue
		}
		gone := append([]byte{byte(table.KindGone)}, p.ID[:]...)
		packets := []table.Packet{{To: p.ID, Reliable: true, Kind: table.KindGone, Body: append(gone, "h1"...)}}
		if round < 10 {
			for i := range 10 {
				packets = append(packets, table.Packet{To: p.ID, Reliable: true, Kind: table.KindState, Body: invented(g.cfg.Self, (round*10+i)*300, 300)})
			}
		}
		g.sender.dispatch(packets)
	}
}

// invented is a message with the states of hosts that do not exist.
func invented(from discovery.HostID, first, n int) []byte {
	blob := func(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }
	out := append([]byte{byte(table.KindState)}, from[:]...)
	for i := first; i < first+n; i++ {
		var id discovery.HostID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		id[15] = 0xbd
		header := blob([]byte{2<<1 | 1}, fmt.Appendf(nil, "invented%d", i))           // its name
		header = blob(append(header, 6<<1|1), []byte{198, 18, byte(i >> 8), byte(i)}) // its VTEP
		body := append(id[:], 1, 1, 0, 0, 1, 0, 0, 0, 0)                              // version 1.1, whole, part 0 of 1, no checksum
		out = blob(out, blob(body, append([]byte{3, 1}, header...)))
	}
	return out
}

// The states are such as a member takes them in.
func TestInventedHostsAreRead(t *testing.T) {
	t.Parallel()
	n := newNode(t, 0)
	var calls []table.Call
	n.replica.step(func(now time.Time) {
		if _, err := n.replica.x.Receive(now, invented(testID(9), 0, 300)); err != nil {
			t.Fatal(err)
		}
	})
	invented := 0
	for _, o := range n.replica.peers() {
		if strings.HasSuffix(o.ID.String(), "bd") {
			invented++
		}
	}
	if invented != 300 || len(calls) != 0 {
		t.Errorf("%d of 300 invented hosts are held where no pool says who is one", invented)
	}
}
