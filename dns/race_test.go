package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
)

// behaviour is how a server in memory answers every question, in words: "has",
// "nx", "nodata", "servfail", "refused", "bare" (refused without a question),
// "lame" (a referral), "silent", "closed", "garbage" (never anything else),
// "cut" (a datagram that ends early, without TC; whole over TCP). Before it may
// stand what happens to the first datagram: "lost", "garbled"; and how long each
// answer takes: "500ms".
type behaviour string

func (b behaviour) last() string {
	words := strings.Fields(string(b))
	return words[len(words)-1]
}

func (b behaviour) delay() time.Duration {
	for _, w := range strings.Fields(string(b)) {
		if d, err := time.ParseDuration(w); err == nil {
			return d
		}
	}
	return 10 * time.Millisecond
}

// network is servers in memory, which a synctest bubble can wait for.
type network struct {
	servers map[string]*memoryServer
}

type memoryServer struct {
	behaviour
	addr string // that it answers with

	mu    sync.Mutex
	asked []time.Time // over UDP
}

// resolversIn are servers of these behaviours, in this order; the nth answers with
// 203.0.113.n.
func resolversIn(behaviours ...behaviour) (*resolvers, *network) {
	n := &network{servers: map[string]*memoryServer{}}
	cfg := Config{}
	for i, b := range behaviours {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 53)
		n.servers[at.String()] = &memoryServer{behaviour: b, addr: fmt.Sprintf("203.0.113.%d", i+1)}
		cfg.Upstreams = append(cfg.Upstreams, at)
	}
	r := newResolvers(Config{ResolvConf: "/none"})
	r.fixed, r.dial = true, n.dial
	r.use(cfg.Upstreams)
	return r, n
}

func (s *memoryServer) set(b behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
}

// asks is how many queries came over UDP.
func (s *memoryServer) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (n *network) dial(_ context.Context, proto, address string) (net.Conn, error) {
	s := n.servers[address]
	s.mu.Lock()
	behaves := s.behaviour
	s.mu.Unlock()
	if behaves.last() == "closed" || proto == "tcp" && strings.Contains(string(behaves), "garb") {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	go s.serve(theirs, proto)
	return ours, nil
}

func (s *memoryServer) serve(conn net.Conn, proto string) {
	defer conn.Close()
	for {
		packet, err := readDatagram(conn)
		if proto == "tcp" && err == nil {
			packet = packet[2:]
		}
		if err != nil {
			return
		}
		s.mu.Lock()
		first := len(s.asked) == 0
		if proto == "udp" {
			s.asked = append(s.asked, time.Now())
		}
		behaves := s.behaviour
		s.mu.Unlock()
		if reply := s.reply(behaves, packet, proto, first); reply != nil {
			time.AfterFunc(behaves.delay(), func() { _, _ = conn.Write(reply) })
		}
	}
}

func (s *memoryServer) reply(behaves behaviour, packet []byte, proto string, first bool) []byte {
	q := new(miekg.Msg)
	if err := q.Unpack(packet); err != nil {
		panic(err)
	}
	garbled := append(binary.BigEndian.AppendUint16(nil, q.Id), 0x81, 0x80, 0, 1, 0, 9, 0, 9, 0, 9, 0xFF, 0xFF)
	if first && strings.HasPrefix(string(behaves), "lost") {
		return nil
	}
	if first && strings.HasPrefix(string(behaves), "garbled") {
		return garbled
	}
	m := new(miekg.Msg).SetReply(q)
	m.RecursionAvailable = true
	switch behaves.last() {
	case "has", "cut":
		m.Answer = answerWith(q, s.addr).Answer
	case "nx":
		m.Rcode = miekg.RcodeNameError
	case "servfail":
		m.Rcode = miekg.RcodeServerFailure
	case "refused", "bare":
		m.Rcode = miekg.RcodeRefused
	case "lame":
		m.RecursionAvailable = false
	case "nodata":
	case "garbage":
		return garbled
	default: // silent
		return nil
	}
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	switch {
	case behaves.last() == "bare":
		return wire[:headerLen]
	case proto == "tcp":
		return framed(wire)
	case behaves.last() == "cut":
		return wire[:len(wire)-4]
	}
	return wire
}

// outcome is "has N" for the answer of server N, an rcode, "NODATA" or "none".
func outcome(m *message, err error) string {
	switch {
	case err != nil:
		return "none"
	case m.rcode() != 0:
		return miekg.RcodeToString[m.rcode()]
	case m.counts[answerSection] == 0:
		return "NODATA"
	}
	return fmt.Sprintf("has %d", m.wire[m.section(answerSection)[0].end-1])
}

// askOnce asks through a forwarder in the current bubble.
func askOnce(ctx context.Context, r *resolvers) (string, time.Duration) {
	f := newForwarder(ctx, r, func(netip.AddrPort) bool { return false }, slog.New(slog.DiscardHandler))
	q := &query{msg: new(miekg.Msg).SetQuestion("mail.corp.example.", miekg.TypeA)}
	start := time.Now()
	m, err := f.ask(ctx, q)
	return outcome(m, err), time.Since(start)
}

func TestRace(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		servers []behaviour
		want    string
		after   time.Duration // rounded down to 100 ms
	}{
		{[]behaviour{"has", "has"}, "has 1", 0},
		{[]behaviour{"nx", "has"}, "NXDOMAIN", 0},
		{[]behaviour{"nodata", "has"}, "NODATA", 0},
		// A company's resolver first, a public one second, and a name of the company.
		{[]behaviour{"500ms has", "nx"}, "has 1", 500 * ms},
		{[]behaviour{"500ms has", "nodata"}, "has 1", 500 * ms},
		{[]behaviour{"1500ms has", "nx"}, "has 1", 1500 * ms},
		{[]behaviour{"2900ms has", "nx", "nx"}, "has 1", 2900 * ms},
		{[]behaviour{"lost has", "nx"}, "has 1", 1000 * ms},
		{[]behaviour{"garbled has", "nx"}, "has 1", 0},
		{[]behaviour{"garbled 500ms has", "nx"}, "has 1", 1000 * ms},
		{[]behaviour{"cut", "nx"}, "has 1", 0},
		{[]behaviour{"500ms nx", "nodata"}, "NXDOMAIN", 500 * ms},
		// A name that the first does not know is the second's.
		{[]behaviour{"500ms nx", "has"}, "has 2", 300 * ms},
		{[]behaviour{"refused", "has"}, "has 2", 0},
		{[]behaviour{"bare", "has"}, "has 2", 0},
		{[]behaviour{"servfail", "has"}, "has 2", 0},
		{[]behaviour{"lame", "has"}, "has 2", 0},
		{[]behaviour{"closed", "has"}, "has 2", 0},
		{[]behaviour{"garbage", "has"}, "has 2", 0},
		{[]behaviour{"silent", "has"}, "has 2", 300 * ms},
		{[]behaviour{"silent", "silent", "has"}, "has 3", 600 * ms},
		// A denial, when the earlier ones have nothing to say.
		{[]behaviour{"silent", "nx"}, "NXDOMAIN", 3000 * ms},
		{[]behaviour{"refused", "nx"}, "NXDOMAIN", 0},
		{[]behaviour{"closed", "garbage", "nodata"}, "NODATA", 0},
		{[]behaviour{"silent", "nx", "has"}, "NXDOMAIN", 3000 * ms}, // the third is not asked: the second has denied it
		// Nobody knows.
		{[]behaviour{"refused", "silent"}, "REFUSED", 4500 * ms},
		{[]behaviour{"bare"}, "REFUSED", 0},
		{[]behaviour{"lame"}, "NODATA", 0},
		{[]behaviour{"closed", "closed"}, "none", 0},
		{[]behaviour{"silent"}, "none", 4500 * ms},
		{nil, "none", 0},
	} {
		t.Run(fmt.Sprint(tt.servers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := resolversIn(tt.servers...)
				got, took := askOnce(t.Context(), r)
				if got != tt.want || took.Truncate(100*ms) != tt.after {
					t.Errorf("got %s after %s, want %s after %s", got, took, tt.want, tt.after)
				}
			})
		})
	}
}

// Whatever three servers do, in whatever order: a denial is only believed of the
// first that can tell, records that somebody has are found unless an earlier one
// denied them, and no longer is waited than has to be.
func TestRaceOfAllBehaviours(t *testing.T) {
	all := []behaviour{"has", "nx", "nodata", "servfail", "refused", "bare", "lame", "closed", "silent", "garbage", "cut",
		"500ms has", "500ms nx", "1500ms has", "1500ms nx", "lost has", "lost nx", "garbled has", "garbled nodata"}
	for _, a := range all {
		for _, b := range all {
			for _, c := range all {
				synctest.Test(t, func(t *testing.T) {
					servers := []behaviour{a, b, c}
					r, _ := resolversIn(servers...)
					got, took := askOnce(t.Context(), r)
					if why := wrong(servers, got, took); why != "" {
						t.Errorf("%q: %s after %s: %s", servers, got, took, why)
					}
				})
			}
		}
	}
}

// wrong says what is wrong with an outcome, by what each server would say alone.
func wrong(servers []behaviour, got string, took time.Duration) string {
	says := func(b behaviour) string {
		switch b.last() {
		case "has", "cut":
			return "has"
		case "nx", "nodata":
			return "no"
		}
		return ""
	}
	tells := slices.IndexFunc(servers, func(b behaviour) bool { return says(b) != "" })
	waits := slices.ContainsFunc(servers, func(b behaviour) bool { return b.last() == "silent" })
	denied := got == "NXDOMAIN" || got == "NODATA" && !(tells < 0 && slices.ContainsFunc(servers, func(b behaviour) bool { return b.last() == "lame" }))
	var server int
	if n, _ := fmt.Sscanf(got, "has %d", &server); n == 1 && says(servers[server-1]) != "has" {
		return "that server has no such name"
	}
	switch {
	case denied && (tells < 0 || says(servers[tells]) != "no"):
		return "nobody who is asked first says so"
	case tells >= 0 && says(servers[tells]) == "has" && server == 0:
		return "an earlier server than any that denies it has it"
	case tells >= 0 && says(servers[tells]) == "no" && !denied && server <= tells:
		return "it does not exist"
	case tells < 0 && server > 0:
		return "from nowhere"
	case !waits && took > 3*time.Second:
		return "too slow, and nobody is silent"
	case tells >= 0 && took > 3700*time.Millisecond:
		return "too slow, and somebody tells"
	case took > answerWithin:
		return "later than the client waits"
	}
	return ""
}

// One slow answer moves nobody: a name that the first server alone has is found
// while it is slow, at once after that, and by every query beside.
func TestASlowUpstreamKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := resolversIn("has", "nx")
		first := n.servers["192.0.2.1:53"]
		for i := range 20 {
			first.set("has")
			if i%4 == 0 {
				first.set([]behaviour{"500ms has", "1500ms has", "garbled has", "2500ms has", "400ms has"}[i/4])
				first.mu.Lock()
				first.asked = nil
				first.mu.Unlock()
			}
			if got, took := askOnce(t.Context(), r); got != "has 1" {
				t.Errorf("query %d: %s after %s", i, got, took)
			}
		}
	})
}

// A server that always takes more than a second is slow, and not silent: others answer
// before it, and what it alone knows is still found.
func TestAVerySlowUpstreamKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := resolversIn("1200ms has", "has")
		second := n.servers["192.0.2.2:53"]
		for i := range 30 {
			if got, took := askOnce(t.Context(), r); got != "has 2" || took > 400*time.Millisecond {
				t.Errorf("query %d: %s after %s", i, got, took)
			}
			time.Sleep(time.Duration(i%3) * 500 * time.Millisecond)
		}
		second.set("nx")
		if got, took := askOnce(t.Context(), r); got != "has 1" || took > 1300*time.Millisecond {
			t.Errorf("a name that the first alone knows: %s after %s", got, took)
		}
	})
}

// A server that stays silent is asked last, and found again when it is back.
func TestASilentUpstreamIsAskedLastUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := resolversIn("silent", "nx")
		if got, took := askOnce(t.Context(), r); got != "NXDOMAIN" || took < silentFor {
			t.Errorf("the first query: %s after %s", got, took)
		}
		for i := range 30 {
			time.Sleep(500 * time.Millisecond)
			if got, took := askOnce(t.Context(), r); got != "NXDOMAIN" || took > 100*time.Millisecond {
				t.Errorf("query %d: %s after %s", i, got, took)
			}
		}
		n.servers["192.0.2.1:53"].set("has")
		time.Sleep(probeEvery)
		askOnce(t.Context(), r) // beside which it is seen that the server is back
		time.Sleep(100 * time.Millisecond)
		if got, _ := askOnce(t.Context(), r); got != "has 1" {
			t.Errorf("back for a second: %s", got)
		}
	})
}

// After a pause in which nobody asked, a server that was silent before may be back:
// a denial waits for it once more.
func TestSilenceOfLongAgoProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := resolversIn("silent", "nx")
		askOnce(t.Context(), r)
		n.servers["192.0.2.1:53"].set("has")
		time.Sleep(avoidFor + time.Second)
		if got, _ := askOnce(t.Context(), r); got != "has 1" {
			t.Errorf("got %s of a server that is back", got)
		}
		n.servers["192.0.2.1:53"].set("silent")
		time.Sleep(time.Minute)
		if got, took := askOnce(t.Context(), r); got != "NXDOMAIN" || took > silentFor+time.Second {
			t.Errorf("got %s after %s", got, took)
		}
	})
}

// A server that leaves one question in silence and answers others keeps its place.
func TestALossBeforeTheLastAnswerIsNoSilence(t *testing.T) {
	u := &upstream{}
	sent := time.Now()
	for range tries {
		u.answered(false)
		u.silent(sent)
	}
	if u.doubtful() || u.avoided(time.Now()) || u.err != nil {
		t.Errorf("put last: %+v", u)
	}
}

// What is known of the upstreams is what became of the last that was asked of them. One
// that refuses is asked for what every resolver can answer.
func TestUpstreamsAreKnownByTheirAnswers(t *testing.T) {
	for _, tt := range []struct {
		behaviour behaviour
		want      string
	}{
		{"has", "<nil>"}, {"nx", "<nil>"}, {"servfail", "answers SERVFAIL"}, {"lost has", "<nil>"}, {"garbled has", "<nil>"}, {"1500ms has", "<nil>"},
		{"refused", "answers REFUSED"}, {"bare", "answers REFUSED"}, {"silent", "no answer"}, {"closed", "connection refused"},
		{"garbage", "malformed answer"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := resolversIn(tt.behaviour)
			askOnce(t.Context(), r)
			time.Sleep(checkEvery)
			newForwarder(t.Context(), r, func(netip.AddrPort) bool { return false }, slog.New(slog.DiscardHandler)).check()
			time.Sleep(2 * time.Second)
			if got := fmt.Sprint(r.current()[0].trouble()); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.behaviour, got, tt.want)
			}
		})
	}
}

// A server that is of no use is asked now and then, and so is one that was chosen for
// this program before anybody needs it; nobody else is.
func TestUselessUpstreamsAreCheckedUntilTheyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := resolversIn("silent", "has")
		f := newForwarder(t.Context(), r, func(netip.AddrPort) bool { return false }, slog.New(slog.DiscardHandler))
		tick := func(times int) {
			for range times {
				f.check()
				time.Sleep(time.Second)
			}
		}
		tick(20)
		first, second := n.servers["192.0.2.1:53"], n.servers["192.0.2.2:53"]
		if second.asks() != 1 || first.asks() < 3 || first.asks() > 6 {
			t.Errorf("asked %d times while it was silent, %d times while it answered", first.asks(), second.asks())
		}
		if us := f.servers(); us[0].trouble() == nil || us[1].trouble() != nil {
			t.Errorf("known are %v and %v", us[0].trouble(), us[1].trouble())
		}
		first.set("has")
		tick(6)
		if err := f.servers()[0].trouble(); err != nil {
			t.Errorf("back since 6 s: %v", err)
		}
	})
}
