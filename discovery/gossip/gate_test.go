package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Who has no key opens connections and sends large messages.
func TestStrangersCannotFillTheHost(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2)
	before := heap()
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	stranger := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, 9, 9)}}
	dial := func() net.Conn {
		c, err := stranger.Dial("tcp", nodes[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		return c
	}
	open, sent := 0, 0
	for range 400 {
		c := dial()
		label := nodes[0].contacts.label
		head := append([]byte{244, byte(len(label))}, label...)
		head = append(head, 10, 0, 0xff, 0xff, 0xff) // encrypted, 16 MB of it
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = c.Write(head)
		if len(conns) <= ofStranger.conns {
			n, _ := io.CopyN(c, zeros{}, 8<<20)
			sent += int(n)
		}
	}
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
			open++
		}
	}
	if open > ofStranger.conns {
		t.Errorf("%d connections of one stranger are open, want %d at most", open, ofStranger.conns)
	}
	if got := heap() - before; got > 16<<20 {
		t.Errorf("%d MB more in use after %d MB were sent", got>>20, sent>>20)
	}
	if all := nodes[0].Strangers(); len(all) != 1 || all[0].From != netip.MustParseAddr("127.9.9.9") || all[0].Times < 400-ofStranger.conns {
		t.Errorf("told of %+v, want the one stranger and its connections", all)
	}
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 7)}, nil)
	eventually(t, 5*time.Second, "a change goes around meanwhile", func() error { return converged(nodes) })
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestGateCountsWhatIsUnderWay(t *testing.T) {
	member := netip.MustParseAddr("192.0.2.1")
	refused := map[netip.Addr]int{}
	g := &gate{member: func(a netip.Addr) bool { return a == member }, refused: func(a netip.Addr) { refused[a]++ }}
	enter := func(from netip.Addr) net.Conn {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		return g.enter(near, from)
	}
	stranger := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }
	var in []net.Conn
	for i := range 1000 {
		if c := enter(stranger(i % 50)); c != nil {
			in = append(in, c)
		}
	}
	if len(in) != ofAll.conns {
		t.Errorf("%d connections of strangers, want %d", len(in), ofAll.conns)
	}
	if c := enter(member); c == nil {
		t.Error("a member is kept out by strangers")
	} else {
		_ = c.Close()
	}
	for _, c := range slices.Concat(in, in) {
		_ = c.Close() // again, as memberlist does
	}
	if len(g.sources) != 0 || g.strangers != (quota{}) {
		t.Errorf("all are closed, and %v of %v count", g.strangers, g.sources)
	}
	near, far := net.Pipe()
	c := g.enter(near, stranger(1))
	go func() { _, _ = io.CopyN(far, zeros{}, 64<<20); _ = far.Close() }()
	n, err := io.Copy(io.Discard, c)
	if !errors.Is(err, errQuota) || int(n) > ofStranger.bytes {
		t.Errorf("read %d bytes of a stranger, %v", n, err)
	}
	_ = c.Close()
	if refused[stranger(1)] == 0 || refused[member] != 0 {
		t.Errorf("refused: %v", refused)
	}
}

// Of twenty-four thousand connections, from addresses without end, a hundred are held.
func TestManyConnectionsOfStrangers(t *testing.T) {
	t.Parallel()
	const wanted, atOnce = 24_000, 8_000 // a process of a test may have 20 000 descriptors
	nodes := cluster(t, 2)
	before := heap()
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for i := range wanted {
		from := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, byte(i>>8), byte(i))}}
		c, err := from.Dial("tcp", nodes[0].Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if conns = append(conns, c); i >= atOnce {
			_ = conns[i-atOnce].Close()
		}
	}
	g := &nodes[0].trans.gate
	eventually(t, 10*time.Second, "few of them are held", func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.strangers.conns > ofAll.conns || len(g.sources) > ofAll.conns+len(nodes) {
			return fmt.Errorf("%d connections of %d addresses", g.strangers.conns, len(g.sources))
		}
		return nil
	})
	// The other ends, in this process, are a kilobyte each.
	if got := heap() - before; got > wanted*2<<10 {
		t.Errorf("%d MB more in use", got>>20)
	}
	if all := nodes[0].Strangers(); len(all) != mostStrangers {
		t.Errorf("told of %d, want %d", len(all), mostStrangers)
	}
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 7)}, nil)
	eventually(t, 5*time.Second, "a change goes around meanwhile", func() error { return converged(nodes) })
}
