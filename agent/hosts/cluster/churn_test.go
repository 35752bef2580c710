package cluster_test

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

var cycles = flag.Int("cycles", 300, "how many endpoints come and go")

// Hundreds of endpoints come and go on three hosts at once: no address is held
// twice, none is lost, and nothing of them is left in any kernel.
func TestHundredsOfEndpointsComeAndGoWithoutATrace(t *testing.T) {
	t.Parallel()
	const workers = 2 // on each host
	l := agenttest.NewCluster(t, agenttest.Config{})
	// 253 addresses for endpoints: fewer than the cycles need if one leaked
	// every time, enough for those that rest ten seconds before they are used
	// again.
	const free = 253
	l.Host(1).CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	from := l.Observers("blue")
	before := l.Entries(t)

	held := &register{holders: map[netip.Addr]string{}}
	var left atomic.Int32
	left.Store(int32(*cycles))
	var wg sync.WaitGroup
	start := time.Now()
	for _, h := range l.Hosts {
		for w := range workers {
			s := h.Sandbox(fmt.Sprintf("worker%d", w))
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					held.cycle(t, s, fmt.Sprintf("worker%d", w))
				}
			})
		}
	}
	wg.Wait()
	t.Logf("%d cycles in %v, %d different addresses", *cycles, time.Since(start).Round(time.Second), len(held.used))

	for i, h := range l.Hosts {
		agenttest.Eventually(t, 5*time.Second, h.Name+" is as before", func() error {
			if diff := agenttest.Diff(before[i], h.Entries(t)); diff != "" {
				return fmt.Errorf("left over or lost:\n%s", diff)
			}
			return nil
		})
	}
	fill(t, l, free-len(from))
}

// The first endpoint of a host brings the network's devices, however its last
// one leaves at the same moment; they go with the network, and all of them.
func TestNetworkComesWithItsEndpointsAndGoesWhenRemoved(t *testing.T) {
	t.Parallel()
	const cycles = 30
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	network := l.Host(1).CreateNetwork("blue")
	held := &register{holders: map[netip.Addr]string{}}
	var wg sync.WaitGroup
	for _, h := range l.Hosts {
		for w := range 2 {
			name := fmt.Sprintf("worker%d", w)
			s := h.Sandbox(name)
			wg.Go(func() {
				for range cycles {
					held.cycle(t, s, name)
				}
			})
		}
	}
	wg.Wait()
	l.Host(2).MustCtl("network", "rm", "blue")
	for _, h := range l.Hosts {
		agenttest.Eventually(t, 10*time.Second, h.Name+": the network and its devices are gone", func() error {
			if r := h.Ctl("network", "inspect", "blue"); r.Code != 4 {
				return fmt.Errorf("%s", r)
			}
			for _, line := range h.Entries(t) {
				if strings.Contains(line, fmt.Sprintf("%06x", network.VNI)) {
					return fmt.Errorf("left: %s", line)
				}
			}
			return nil
		})
	}
}

// register knows which addresses are held at this moment.
type register struct {
	mu      sync.Mutex
	holders map[netip.Addr]string
	used    []netip.Addr
}

// cycle attaches and detaches once.
func (r *register) cycle(t *testing.T, s *agenttest.Sandbox, name string) {
	a, result := s.TryAttach("blue", name)
	if result.Code != 0 {
		t.Errorf("attach: %s", result)
		return
	}
	r.take(t, a.Addr(), string(s.NS))
	if err := s.PingOnce(a.Gateway); err != nil {
		t.Errorf("%v cannot be used: %v", a.Addr(), err)
	}
	r.release(a.Addr()) // before the detach: from then on it may be given out again
	if result := s.Host.Ctl("detach", "blue", name); result.Code != 0 {
		t.Errorf("detach: %s", result)
	}
}

func (r *register) take(t *testing.T, a netip.Addr, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other, ok := r.holders[a]; ok {
		t.Errorf("%v was given to %s while %s held it", a, by, other)
	}
	r.holders[a] = by
	if !slices.Contains(r.used, a) {
		r.used = append(r.used, a)
	}
}

func (r *register) release(a netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holders, a)
}

// fill attaches until the network is full on every host, which must be after
// exactly free endpoints: one less, and an address has leaked.
func fill(t *testing.T, l *agenttest.Lab, free int) {
	t.Helper()
	held := &register{holders: map[netip.Addr]string{}}
	var wg sync.WaitGroup
	for _, h := range l.Hosts {
		s := h.Sandbox("fill")
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("fill%d", i)
				a, err := attachOnceRested(s, name)
				if err != nil {
					t.Logf("%s: full after %d: %v", s.Host.Name, i, err)
					return
				}
				held.take(t, a.Addr(), string(s.NS)+" "+name)
			}
		})
	}
	wg.Wait()
	if len(held.used) != free {
		t.Errorf("%d endpoints fill the network, %d addresses were free", len(held.used), free)
	}
}

// attachOnceRested attaches one more interface. An address that was freed rests
// ten seconds, and a host that holds more than it uses lends: so a refusal
// counts when it lasts.
func attachOnceRested(s *agenttest.Sandbox, name string) (agenttest.Attachment, error) {
	var a agenttest.Attachment
	_, err := agenttest.Await(12*time.Second, func() error {
		got, r := s.TryAttach("blue", name, "--ifname", name)
		if r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		a = got
		return nil
	})
	return a, err
}
