package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// testUpstream is a resolver on the loopback device.
type testUpstream struct {
	addr  netip.AddrPort
	asked atomic.Int64
}

// startUpstream serves UDP and TCP on one port.
func startUpstream(t testing.TB, answer func(miekg.ResponseWriter, *miekg.Msg)) *testUpstream {
	t.Helper()
	a := loopback()
	u := &testUpstream{addr: netip.AddrPortFrom(a, freePort(t, a))}
	handler := miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		u.asked.Add(1)
		answer(w, q)
	})
	for _, network := range []string{"udp", "tcp"} {
		up := make(chan struct{})
		srv := &miekg.Server{Addr: u.addr.String(), Net: network, Handler: handler, NotifyStartedFunc: func() { close(up) }}
		done := make(chan error, 1)
		go func() { done <- srv.ListenAndServe() }()
		select {
		case <-up:
		case err := <-done:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-done
		})
	}
	return u
}

// silent is an upstream that never answers.
func silent(t testing.TB) *testUpstream {
	return startUpstream(t, func(miekg.ResponseWriter, *miekg.Msg) {})
}

// with returns an upstream that answers every question with addr.
func with(t testing.TB, addr string) *testUpstream {
	return startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) { _ = w.WriteMsg(answerWith(q, addr)) })
}

func answerWith(q *miekg.Msg, addrs ...string) *miekg.Msg {
	m := new(miekg.Msg).SetReply(q)
	for _, a := range addrs {
		m.Answer = append(m.Answer, &miekg.A{
			Hdr: miekg.RR_Header{Name: q.Question[0].Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 300}, A: net.ParseIP(a)})
	}
	return m
}

func rcodeWith(rcode int) func(miekg.ResponseWriter, *miekg.Msg) {
	return func(w miekg.ResponseWriter, q *miekg.Msg) { _ = w.WriteMsg(new(miekg.Msg).SetRcode(q, rcode)) }
}

// nowhere is an address where nothing listens: the kernel says so by ICMP.
func nowhere(t testing.TB) *testUpstream {
	a := loopback()
	return &testUpstream{addr: netip.AddrPortFrom(a, freePort(t, a))}
}

// through serves with these upstreams.
func through(t testing.TB, ups ...*testUpstream) *site {
	t.Helper()
	var cfg Config
	for _, u := range ups {
		cfg.Upstreams = append(cfg.Upstreams, u.addr)
	}
	cfg.ForwardSingleLabel = true
	return serve(t, cfg)
}

func first(m *miekg.Msg) string {
	if m == nil || len(m.Answer) == 0 {
		return rcode(m)
	}
	return m.Answer[0].(*miekg.A).A.String()
}

// prompt is before the next upstream is tried, and long for a machine that is busy.
const prompt = 290 * time.Millisecond

func TestForwarded(t *testing.T) {
	const good, bad = "203.0.113.5", "203.0.113.6"
	for _, tt := range []struct {
		name     string
		ups      func(t *testing.T) []*testUpstream
		want     string
		min, max time.Duration
	}{
		{"one upstream", func(t *testing.T) []*testUpstream { return []*testUpstream{with(t, good)} }, good, 0, prompt},
		{"the first is asked first", func(t *testing.T) []*testUpstream { return []*testUpstream{with(t, good), with(t, bad)} }, good, 0, prompt},
		{"the first is silent", func(t *testing.T) []*testUpstream { return []*testUpstream{silent(t), with(t, good)} }, good, 300 * time.Millisecond, 900 * time.Millisecond},
		{"the first two are silent", func(t *testing.T) []*testUpstream { return []*testUpstream{silent(t), silent(t), with(t, good)} }, good, 600 * time.Millisecond, 1200 * time.Millisecond},
		{"the first does not listen", func(t *testing.T) []*testUpstream { return []*testUpstream{nowhere(t), with(t, good)} }, good, 0, prompt},
		{"the first fails", func(t *testing.T) []*testUpstream {
			return []*testUpstream{startUpstream(t, rcodeWith(miekg.RcodeServerFailure)), with(t, good)}
		}, good, 0, prompt},
		{"the first says no such name", func(t *testing.T) []*testUpstream {
			return []*testUpstream{startUpstream(t, rcodeWith(miekg.RcodeNameError)), with(t, bad)}
		}, "NXDOMAIN", 0, prompt},
		{"all refuse", func(t *testing.T) []*testUpstream {
			return []*testUpstream{startUpstream(t, rcodeWith(miekg.RcodeRefused))}
		}, "REFUSED", 0, prompt},
		{"nobody listens", func(t *testing.T) []*testUpstream { return []*testUpstream{nowhere(t), nowhere(t)} }, "SERVFAIL", 0, prompt},
		{"both are silent", func(t *testing.T) []*testUpstream { return []*testUpstream{silent(t), silent(t)} }, "SERVFAIL", 4 * time.Second, 5 * time.Second},
		{"none is known", func(*testing.T) []*testUpstream { return nil }, "SERVFAIL", 0, prompt},
		{"a lost datagram is sent again", func(t *testing.T) []*testUpstream {
			var n atomic.Int64
			return []*testUpstream{startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
				if n.Add(1) > 1 {
					_ = w.WriteMsg(answerWith(q, good))
				}
			})}
		}, good, time.Second, 1500 * time.Millisecond},
		{"truncated answers are asked for over TCP", func(t *testing.T) []*testUpstream {
			return []*testUpstream{startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
				m := answerWith(q, good)
				if w.RemoteAddr().Network() == "udp" {
					m.Truncated, m.Answer = true, nil
				}
				_ = w.WriteMsg(m)
			})}
		}, good, 0, prompt},
		{"forged answers are passed over", func(t *testing.T) []*testUpstream {
			return []*testUpstream{startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
				forged := answerWith(q, bad)
				forged.Id++
				_ = w.WriteMsg(forged)
				forged = answerWith(q, bad)
				forged.Question[0].Name = "other.example."
				_ = w.WriteMsg(forged)
				forged = answerWith(q, bad)
				forged.Response = false
				_ = w.WriteMsg(forged)
				_, _ = w.Write([]byte("junk"))
				_ = w.WriteMsg(answerWith(q, good))
			})}
		}, good, 0, prompt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.max > time.Second {
				t.Parallel() // it only waits
			}
			s := through(t, tt.ups(t)...)
			conn := s.dial(t, "udp")
			start := time.Now()
			m := exchange(t, conn, "www.EXAMPLE.com", 6*time.Second)
			took := time.Since(start)
			if first(m) != tt.want || took < tt.min || took > tt.max {
				t.Errorf("got %s after %s, want %s after %s to %s", first(m), took, tt.want, tt.min, tt.max)
			}
			if m != nil && m.Question[0].Name != "www.EXAMPLE.com." {
				t.Errorf("question %s", m.Question[0].Name)
			}
		})
	}
}

func TestBesideADoubtfulUpstreamTheNextIsAskedAtOnce(t *testing.T) {
	s := through(t, silent(t), with(t, "203.0.113.5"), with(t, "203.0.113.5"))
	conn := s.dial(t, "udp")
	exchange(t, conn, "a.example", time.Second)
	eventually(t, 3*time.Second, func() bool { return s.remote.resolvers.current()[0].doubtful() })
	for i := range 50 {
		start := time.Now()
		if m := exchange(t, conn, fmt.Sprintf("n%d.example", i), time.Second); rcode(m) != "NOERROR" || time.Since(start) > prompt {
			t.Fatalf("%s after %s", rcode(m), time.Since(start))
		}
	}
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		<-release
		_ = w.WriteMsg(answerWith(q, "203.0.113.5"))
	})
	s := through(t, up)
	conns := make([]*miekg.Conn, 50)
	for i := range conns {
		conns[i] = s.dial(t, "udp")
		q := new(miekg.Msg).SetQuestion([]string{"example.com.", "EXAMPLE.com."}[i%2], miekg.TypeA)
		if err := conns[i].WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Second, func() bool { return s.stats.forwarded.Load() == 50 })
	close(release)
	for i, c := range conns {
		m := read(t, c, time.Second)
		if first(m) != "203.0.113.5" || m.Question[0].Name != []string{"example.com.", "EXAMPLE.com."}[i%2] {
			t.Errorf("client %d: %v", i, m)
		}
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestInternalNetworkSendsNothingUpstream(t *testing.T) {
	up := with(t, "203.0.113.5")
	s := through(t, up)
	conn := dialFrom(t, "udp", s.client.Next(), s.addr)
	for _, name := range []string{"example.com", "nope", "nope.foreign", "web.blue", "1.113.0.203.in-addr.arpa"} {
		if m := exchange(t, conn, name, time.Second); rcode(m) != "REFUSED" {
			t.Errorf("%s: %s", name, rcode(m))
		}
	}
	if n := up.asked.Load(); n > 0 {
		t.Errorf("%d queries left", n)
	}
}

func TestOurNamesAreNeverForwarded(t *testing.T) {
	up := with(t, "203.0.113.5")
	s := through(t, up)
	conn := s.dial(t, "udp")
	for _, name := range []string{"web", "nope.weft.internal", "nope.blue.weft.internal", "web.blue", "weft.internal", "77.2.0.192.in-addr.arpa"} {
		if m := exchange(t, conn, name, time.Second); m == nil {
			t.Errorf("%s: silence", name)
		}
	}
	if n := up.asked.Load(); n > 0 {
		t.Errorf("%d queries left", n)
	}
}

func TestOwnAddressIsNoUpstream(t *testing.T) {
	gateway := loopback()
	port := freePort(t, gateway)
	s := New(Config{Port: port, Upstreams: []netip.AddrPort{netip.AddrPortFrom(gateway, port)}})
	run(t, s)
	s.Set(loopZone(gateway, loopback(), loopback()))
	m := exchange(t, dialFrom(t, "udp", loopback(), netip.AddrPortFrom(gateway, port)), "example.com", time.Second)
	if rcode(m) != "SERVFAIL" || s.stats.queries.Load() != 1 {
		t.Errorf("%s after %d queries", rcode(m), s.stats.queries.Load())
	}
}

// TestLoopEndsInItself has an upstream that sends everything back to us.
func TestLoopEndsInItself(t *testing.T) {
	t.Parallel()
	var back atomic.Pointer[netip.AddrPort]
	var came atomic.Int64
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		if q.Question[0].Name == "example.com." {
			came.Add(1)
		}
		c := miekg.Client{Timeout: 5 * time.Second}
		if m, _, err := c.Exchange(q, back.Load().String()); err == nil {
			_ = w.WriteMsg(m)
		}
	})
	s := through(t, up)
	back.Store(&s.addr)
	start := time.Now()
	m := exchange(t, s.dial(t, "udp"), "example.com", 6*time.Second)
	if took := time.Since(start); rcode(m) != "SERVFAIL" || took > 5*time.Second {
		t.Errorf("%s after %s", rcode(m), took)
	}
	if n := came.Load(); n > 6 {
		t.Errorf("one question became %d", n)
	}
}

func TestTooManyQueriesInFlightFailAtOnce(t *testing.T) {
	s := through(t, silent(t))
	for i := range maxInFlight {
		if !s.remote.inFlight.take(source{device: fmt.Sprint(i)}) {
			t.Fatal("slots are taken")
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		start := time.Now()
		m := exchange(t, s.dial(t, network), "example.com", time.Second, func(m *miekg.Msg) { m.SetEdns0(1232, false) })
		if rcode(m) != "SERVFAIL" || time.Since(start) > prompt {
			t.Errorf("%s: %s after %s", network, rcode(m), time.Since(start))
		}
		if m := exchange(t, s.dial(t, network), "web", time.Second); rcode(m) != "NOERROR" {
			t.Errorf("%s: local name: %s", network, rcode(m))
		}
	}
	if n := s.stats.overload.Load(); n != 2 {
		t.Errorf("counted %d", n)
	}
}

func TestForwardedAnswerIsCutToTheClientsSize(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("203.0.113.%d", i+1)
	}
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := answerWith(q, many...)
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	s := through(t, up)
	for network, want := range map[string]int{"udp": 30, "tcp": 100} {
		m := exchange(t, s.dial(t, network), "example.com", time.Second)
		if m == nil || len(m.Answer) != want || m.Truncated != (want < 100) {
			t.Errorf("%s: %d records, TC %v", network, len(m.Answer), m.Truncated)
		}
	}
}

func TestEDNSIsHopByHop(t *testing.T) {
	var mu sync.Mutex
	var got *miekg.Msg
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		mu.Lock()
		defer mu.Unlock()
		got = q.Copy()
		m := answerWith(q, "203.0.113.5")
		if q.IsEdns0() != nil {
			m.SetEdns0(4096, true)
			opt := m.IsEdns0()
			opt.Option = []miekg.EDNS0{&miekg.EDNS0_EDE{InfoCode: 3, ExtraText: "old"}, &miekg.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}}
		}
		_ = w.WriteMsg(m)
	})
	s := through(t, up)
	m := exchange(t, s.dial(t, "udp"), "example.com", time.Second, func(m *miekg.Msg) {
		m.SetEdns0(4096, true)
		m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
	})
	mu.Lock()
	defer mu.Unlock()
	if opt := got.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != ednsUDP || len(opt.Option) != 0 {
		t.Errorf("went upstream: %v", opt)
	}
	if opt := m.IsEdns0(); opt == nil || len(opt.Option) != 1 || opt.Option[0].String() != "3 (Stale Answer): (old)" {
		t.Errorf("came back: %v", opt)
	}
}

func TestResolveEndsWithItsContext(t *testing.T) {
	s := through(t, silent(t))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if a, err := s.Resolve(ctx, "example.com", "A", Scope{Host: true}); err == nil || time.Since(start) > time.Second {
		t.Errorf("got %v after %s", a, time.Since(start))
	}
}

func TestOneClientCannotTakeAllOfTheQueriesInFlight(t *testing.T) {
	s := through(t, silent(t))
	conn := s.dial(t, "udp")
	for i := range maxOfSource + 10 {
		if err := conn.WriteMsg(new(miekg.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i%2), miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, func() bool { return s.stats.overload.Load() == 10 && s.stats.forwarded.Load() == maxOfSource })
	other := dialFrom(t, "udp", loopback(), s.addr)
	if err := other.WriteMsg(new(miekg.Msg).SetQuestion("n0.example.", miekg.TypeA)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() bool { return s.stats.forwarded.Load() == maxOfSource+1 })
}

// Behind a firewall that lets no TCP through, what fits into a datagram is better
// than nothing.
func TestTruncatedWhereOnlyDatagramsPass(t *testing.T) {
	for name, tcp := range map[string]func(miekg.ResponseWriter){
		"refused": func(w miekg.ResponseWriter) { _ = w.Close() },
		"dropped": func(miekg.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
				if w.RemoteAddr().Network() == "tcp" {
					tcp(w)
					return
				}
				m := answerWith(q, "203.0.113.5")
				m.Truncated = true
				_ = w.WriteMsg(m)
			})
			m := exchange(t, through(t, up).dial(t, "udp"), "big.example.com", 3*time.Second)
			if first(m) != "203.0.113.5" || !m.Truncated {
				t.Errorf("got %s, want a part that is marked so: %v", first(m), m)
			}
		})
	}
}
