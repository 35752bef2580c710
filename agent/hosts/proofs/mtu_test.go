package proofs_test

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A hop on the way carries 1400 bytes of the hosts' 1500 and says nothing about it: the
// networks' MTU follows, a transfer that stalled goes on, and both are said.
func TestHopThatCarriesLess(t *testing.T) {
	t.Parallel()
	l, boxes, at := shared(t, agenttest.Config{Hosts: 2})
	one := l.Host(1)
	for _, h := range l.Hosts {
		// A real device cuts what it sends into packets; a veth hands on 64 kB as one.
		h.NS.Must(t, "ip", "link", "set", "eth0", "gso_max_segs", "1")
	}
	flow := transfer(t, boxes[0], boxes[1], at[1].Addr(), 5001, 100_000)
	l.Switch.Must(t, "nft", "table bridge narrow { chain way { type filter hook forward priority 0; ip length > 1400 counter drop; }; }")
	flow.full() // so that something is in flight that does not pass
	await(t, one, 45*time.Second, "warn", "packets of 1500 bytes do not pass from h1 to h2, of 1400 they do: the networks' MTU is 1350")
	if n := one.Network("blue"); n.MTU != 1350 {
		t.Errorf("the network's MTU is %d, want 1350", n.MTU)
	}
	if r := one.Ctl("status"); r.Code != 0 {
		t.Errorf("traffic flows, so status is ok: %s", r)
	}
	if longest := flow.wait(t); longest > 30*time.Second {
		t.Errorf("the transfer stalled for %v, 30 s at most", longest)
	} else {
		t.Logf("the transfer stalled for %v", longest.Round(time.Millisecond))
	}
	if longest := transfer(t, boxes[0], boxes[1], at[1].Addr(), 5002, 0).wait(t); longest > time.Second {
		t.Errorf("a new connection stalled for %v", longest)
	}
	for _, box := range boxes {
		if out := box.NS.Must(t, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, " mtu 1350 ") {
			t.Errorf("a sandbox keeps its MTU: %s", out)
		}
	}
}

// size of a transfer.
const size = 10 << 20

// flow is a transfer that is under way.
type flow struct {
	got     atomic.Int64
	faster  atomic.Bool
	longest time.Duration // between two reads
	done    chan error
}

// transfer sends 10 MB from a sandbox to an address of another, slowly at first if it is
// told how many bytes a second.
func transfer(t *testing.T, from, to *agenttest.Sandbox, addr netip.Addr, port uint16, slowly int) *flow {
	t.Helper()
	l, err := to.NS.ListenTCP(netip.AddrPortFrom(addr, port))
	if err != nil {
		t.Fatal(err)
	}
	out, err := from.NS.DialTCP(netip.AddrPortFrom(addr, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); out.Close() })
	f := &flow{done: make(chan error, 1)}
	go func() {
		chunk := make([]byte, 10_000)
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := out.Write(chunk); err != nil {
				return
			}
			if slowly > 0 && !f.faster.Load() {
				time.Sleep(time.Second * time.Duration(len(chunk)) / time.Duration(slowly))
			}
		}
		out.CloseWrite()
	}()
	go func() {
		in, err := l.Accept()
		if err != nil {
			f.done <- err
			return
		}
		defer in.Close()
		buf := make([]byte, 1<<20)
		for last := time.Now(); err == nil; last = time.Now() {
			var n int
			n, err = in.Read(buf)
			f.got.Add(int64(n))
			f.longest = max(f.longest, time.Since(last))
		}
		if err != io.EOF {
			f.done <- err
			return
		}
		f.done <- nil
	}()
	agenttest.Eventually(t, 5*time.Second, "the transfer begins", func() error {
		if f.got.Load() == 0 {
			return fmt.Errorf("nothing came")
		}
		return nil
	})
	return f
}

// full has the rest sent as fast as it goes.
func (f *flow) full() { f.faster.Store(true) }

// wait returns the longest pause when everything has come.
func (f *flow) wait(t *testing.T) time.Duration {
	t.Helper()
	select {
	case err := <-f.done:
		if got := f.got.Load(); err != nil || got < size {
			t.Fatalf("%d of %d bytes came: %v", got, size, err)
		}
	case <-time.After(50 * time.Second):
		t.Fatalf("%d of %d bytes came, and then no more", f.got.Load(), size)
	}
	return f.longest
}
