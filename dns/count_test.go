package dns

import (
	"slices"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// An answer is counted under the network of who asked, however often the zone is set,
// and one from upstream with the time that it took.
func TestAnswersAreCounted(t *testing.T) {
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		time.Sleep(20 * time.Millisecond)
		_ = w.WriteMsg(answerWith(q, "203.0.113.5"))
	})
	s := through(t, up)
	conn := s.dial(t, "udp")
	for _, name := range []string{"web.blue", "nope.blue.weft.internal", "example.com"} {
		exchange(t, conn, name, time.Second)
		s.Set(s.zone)
	}
	got := s.Stats()
	for _, want := range []Replies{{"blue", "A", "NOERROR", 2}, {"blue", "A", "NXDOMAIN", 1}} {
		if !slices.Contains(got.Replies, want) {
			t.Errorf("no %+v among %+v", want, got.Replies)
		}
	}
	if got.Queries != 3 || got.Forwarded != 1 {
		t.Errorf("%+v", got)
	}
	u := s.Upstreams().Servers[0]
	if u.Answers != 1 || u.Errors != 0 || u.Took < 20*time.Millisecond {
		t.Errorf("the upstream: %+v", u)
	}
}

// A client that asks for any number of types, or gets any rcode, makes a bounded
// number of series, and counting allocates nothing.
func TestCountingIsBoundedAndFree(t *testing.T) {
	var r replies
	for qtype := range 1 << 16 {
		r.add(uint16(qtype), qtype%16)
	}
	sum := uint64(0)
	for _, one := range r.list("blue") {
		sum += one.Count
	}
	if n := len(r.list("blue")); n > len(countedTypes)*len(countedRcodes) || sum != 1<<16 {
		t.Errorf("%d series of %d answers", n, sum)
	}
	if n := testing.AllocsPerRun(100, func() { r.add(miekg.TypeA, 0) }); n > 0 {
		t.Errorf("%v allocations for each answer", n)
	}
}
