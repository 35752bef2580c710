package agenttest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Pinger is a ping that runs while a test does something to the hosts.
type Pinger struct {
	from *Sandbox
	to   netip.Addr
	p    *process
}

// pingEvery is the pause between two packets of a Pinger: an interruption of
// that length is seen.
const pingEvery = 20 * time.Millisecond

// StartPing begins to ping addr from the sandbox and waits for the first reply.
func (s *Sandbox) StartPing(addr netip.Addr) *Pinger {
	t := s.Host.lab.t
	t.Helper()
	log := filepath.Join(s.Host.lab.Dir, fmt.Sprintf("ping-%s-%s.log", s.NS, addr))
	os.Remove(log) // of an earlier ping between the same two
	p := start(t, log, nil, s.NS.Enter("ping", "-n", "-i", strconv.FormatFloat(pingEvery.Seconds(), 'f', -1, 64), addr.String())...)
	pinger := &Pinger{from: s, to: addr, p: p}
	pinger.AwaitReplies(1)
	return pinger
}

var pingReply = regexp.MustCompile(`(?m)bytes from .* icmp_seq=(\d+) `)

// replies returns the numbers of the packets that came back so far.
func (p *Pinger) replies() []int {
	t := p.from.Host.lab.t
	t.Helper()
	out, err := os.ReadFile(p.p.log)
	if err != nil {
		t.Fatal(err)
	}
	var back []int
	for _, m := range pingReply.FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.Atoi(m[1])
		back = append(back, n)
	}
	return back
}

// AwaitReplies waits for that many more packets to come back.
func (p *Pinger) AwaitReplies(n int) {
	t := p.from.Host.lab.t
	t.Helper()
	want := len(p.replies()) + n
	Eventually(t, 5*time.Second, fmt.Sprintf("%s: %d more replies of %v", p.from.NS, n, p.to), func() error {
		if got := len(p.replies()); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// Stop ends the ping and returns how many packets came back, and the numbers of
// those before the last one that did not.
func (p *Pinger) Stop() (received int, lost []int) {
	t := p.from.Host.lab.t
	t.Helper()
	if err := p.p.signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	back := p.replies()
	for n := 1; len(back) > 0 && n < slices.Max(back); n++ {
		if !slices.Contains(back, n) {
			lost = append(lost, n)
		}
	}
	return len(back), lost
}

// AssertNoLoss stops the ping and fails the test when a packet was lost, or
// when fewer came back than the time that it ran is worth.
func (p *Pinger) AssertNoLoss(ran time.Duration) {
	t := p.from.Host.lab.t
	t.Helper()
	received, lost := p.Stop()
	// Half of what was due: a busy machine stretches the pauses, a path that
	// went dead would show less.
	if due := int(ran / pingEvery / 2 / slower); len(lost) > 0 || received < due {
		t.Errorf("ping from %s to %v: %d came back (at least %d were due), lost: %v\n%s",
			p.from.NS, p.to, received, due, lost, tail(p.p.log, 3))
	}
}

// Count is a ping of many packets, of which only the number is kept.
type Count struct {
	p *process
	s *Sandbox
}

// CountPings begins to ping addr from the sandbox.
func (s *Sandbox) CountPings(addr netip.Addr, every time.Duration) *Count {
	t := s.Host.lab.t
	t.Helper()
	log := filepath.Join(s.Host.lab.Dir, fmt.Sprintf("count-%s-%s.log", s.NS, addr))
	return &Count{start(t, log, nil, s.NS.Enter("ping", "-q", "-n", "-i", strconv.FormatFloat(every.Seconds(), 'f', -1, 64), addr.String())...), s}
}

var pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// Stop ends the ping and returns how many packets went out and came back. A last packet
// that is still on its way is not counted.
func (c *Count) Stop() (sent, received int) {
	t := c.s.Host.lab.t
	t.Helper()
	if err := c.p.signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(c.p.log)
	m := pingCounts.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		t.Fatalf("ping: %v %s", err, out)
	}
	sent, _ = strconv.Atoi(m[1])
	received, _ = strconv.Atoi(m[2])
	if sent == received+1 {
		sent--
	}
	return sent, received
}
