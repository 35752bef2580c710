package chronicle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/history"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/discovery"
)

// cluster is hosts h1, h2, … with a journal each, that ask each other.
type cluster struct {
	journals []*history.Journal
	peers    []*peers.Peers // nil: it is older, and does not know the question
	cut      map[int]bool   // does not answer
	stop     func()
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{cut: map[int]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, n)
	for i := range n {
		j := history.New(history.Config{Dir: t.TempDir() + "/history", Max: 64 << 20, Age: 30 * 24 * time.Hour, Host: fmt.Sprint("h", i+1), Log: slog.New(slog.DiscardHandler)})
		p := new(peers.Peers)
		p.Handle(Question, Answers(j))
		c.journals, c.peers = append(c.journals, j), append(c.peers, p)
		go func() { _ = j.Run(ctx); done <- struct{}{} }()
	}
	c.stop = func() {
		cancel()
		for range n {
			<-done
		}
	}
	return c
}

// at is the cluster as the first host reads it.
func (c *cluster) at() Chronicle {
	return Chronicle{Self: "h1", Own: c.journals[0],
		Others: func() (out []discovery.Member, silent []api.Unasked) {
			for i := range c.journals[1:] {
				out = append(out, discovery.Member{ID: discovery.HostID{byte(i + 1)}, Name: fmt.Sprint("h", i+2)})
			}
			return out, []api.Unasked{{Host: "h9", Why: "it is dead"}}
		},
		Call: func(_ context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			i := int(to[0])
			switch {
			case c.cut[i]:
				return nil, errors.New("cut off")
			case c.peers[i] == nil:
				return []byte{1, 5}, nil
			}
			reply, _ := c.peers[i].Serve(discovery.HostID{}, body)
			return reply, nil
		},
		Unasked: func(o discovery.Member, err error) api.Unasked { return api.Unasked{Host: o.Name, Why: err.Error()} }}
}

// collect runs a query to its end.
func collect(t *testing.T, c Chronicle, q api.EventQuery) (events []api.Event, unasked []string, last string) {
	t.Helper()
	err := c.Events(t.Context(), q, func(i api.EventItem) error {
		if i.Event != nil {
			events = append(events, *i.Event)
		}
		if i.Unasked != nil {
			unasked = append(unasked, i.Unasked.Host+": "+i.Unasked.Why)
		}
		if i.Cursor != "" {
			last = i.Cursor
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, unasked, last
}

func TestHistoriesAreMergedByTime(t *testing.T) {
	dirs := t
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(dirs, 3)
		defer c.stop()
		const n = 2*page + 100 // several pages of some
		for i := range n {
			who := i % 7 % 3
			c.journals[who].Emit(event.Event{Kind: event.Forced, Subject: fmt.Sprint(i), Host: "a liar"})
			time.Sleep(time.Millisecond)
		}
		got, unasked, last := collect(t, c.at(), api.EventQuery{All: true})
		if len(got) != n || !slices.Equal(unasked, []string{"h9: it is dead"}) {
			t.Fatalf("%d of %d events; %q", len(got), n, unasked)
		}
		for i, e := range got {
			if want := fmt.Sprint("h", i%7%3+1); e.Subject != fmt.Sprint(i) || e.Host != want {
				t.Fatalf("event %d is %s of %s, want %s", i, e.Subject, e.Host, want)
			}
		}
		if again, _, _ := collect(t, c.at(), api.EventQuery{All: true, After: last}); len(again) != 0 {
			t.Errorf("%d events after the last", len(again))
		}
		c.journals[2].Emit(event.Event{Kind: event.Forced, Subject: "new"})
		if again, _, _ := collect(t, c.at(), api.EventQuery{All: true, After: last}); len(again) != 1 || again[0].Subject != "new" {
			t.Errorf("after the last: %v", again)
		}
		if own, unasked, _ := collect(t, c.at(), api.EventQuery{}); len(unasked) > 0 || own[0].Host != "h1" || len(own) >= n {
			t.Errorf("%d own events, %q", len(own), unasked)
		}
		if of, _, _ := collect(t, c.at(), api.EventQuery{Host: "H2", Since: "1s"}); len(of) == 0 || of[0].Host != "h2" || time.Since(of[0].At) > time.Second {
			t.Errorf("of h2: %d", len(of))
		}
	})
}

// A member that does not answer, or does not know the question, is said; the others'
// events are shown all the same.
func TestSilentMembersAreSaid(t *testing.T) {
	c := newCluster(t, 3)
	defer c.stop()
	c.cut[1], c.peers[2] = true, nil
	c.journals[0].Emit(event.Event{Kind: event.Forced})
	got, unasked, _ := collect(t, c.at(), api.EventQuery{All: true})
	all := strings.Join(unasked, "\n")
	if len(got) != 1 || len(unasked) != 3 || !strings.Contains(all, "h2: ") || !strings.Contains(all, "h3: "+peers.ErrUnknown.Error()) {
		t.Errorf("%d events\n%s", len(got), all)
	}
}

func TestWrongQueriesAreMisuse(t *testing.T) {
	c := newCluster(t, 1)
	defer c.stop()
	for _, q := range []api.EventQuery{{Since: "yesterday"}, {Until: "x"}, {Kinds: []string{"birthday"}}, {After: "h1"}, {After: "h1:x"}} {
		if err := c.at().Events(t.Context(), q, func(api.EventItem) error { return nil }); api.KindOf(err) != api.KindMisuse {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if err := c.at().Events(t.Context(), api.EventQuery{Host: "h7"}, func(api.EventItem) error { return nil }); api.KindOf(err) != api.KindNotFound {
		t.Errorf("a host that there is not: %v", err)
	}
	if got, _, _ := collect(t, c.at(), api.EventQuery{Since: "1000000h"}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Who follows sees each event once, those of other members within two seconds, also of
// one that was cut off meanwhile; the end of the agent ends it.
func TestFollow(t *testing.T) {
	dirs := t
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(dirs, 2)
		defer c.stop()
		c.journals[0].Emit(event.Event{Kind: event.Forced, Subject: "before"})
		time.Sleep(time.Second)
		var got []string
		ended := make(chan error)
		heard := make(chan struct{}, 1)
		go func() {
			ended <- c.at().Events(context.Background(), api.EventQuery{All: true, Follow: true}, func(i api.EventItem) error {
				switch {
				case i.Event != nil:
					got = append(got, i.Event.Subject)
				case i.Unasked != nil:
					got = append(got, "unasked "+i.Unasked.Host)
				default:
					heard <- struct{}{}
				}
				return nil
			})
		}()
		<-heard
		time.Sleep(10 * time.Millisecond)
		for i := range 5 {
			c.journals[i%2].Emit(event.Event{Kind: event.Forced, Subject: fmt.Sprint(i)})
			time.Sleep(3 * time.Second)
		}
		c.cut[1] = true
		time.Sleep(3 * time.Second)
		c.journals[1].Emit(event.Event{Kind: event.Forced, Subject: "while cut off"})
		time.Sleep(3 * time.Second)
		c.cut[1] = false
		time.Sleep(3 * time.Second)
		c.journals[0].Hush()
		if err := <-ended; api.KindOf(err) != api.KindUnreachable {
			t.Errorf("%v", err)
		}
		if want := []string{"unasked h9", "0", "1", "2", "3", "4", "unasked h2", "while cut off"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// owned is a time in the test's own ledger.
type owned struct {
	host, id, addr string
	from, to       time.Time // to zero: it goes on
}

// Whoever is asked for at any time is who had the address, over attachments, moves and
// hosts that end without a word.
func TestHistoryOfAnAddress(t *testing.T) {
	dirs := t
	synctest.Test(t, func(t *testing.T) {
		const hosts, addrs = 3, 8
		c := newCluster(dirs, hosts)
		defer c.stop()
		r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
		begin := time.Now()
		var ledger []*owned
		have := map[string]*owned{} // by address
		tell := func(o *owned, kind event.Kind) {
			c.journals[int(o.host[1]-'1')].Emit(event.Event{Kind: kind, Subject: "web", Network: "blue", Endpoint: o.id, Addr: o.addr})
		}
		for n := range 800 {
			time.Sleep(time.Duration(1+r.IntN(10_000)) * time.Millisecond)
			addr := fmt.Sprint("10.64.0.", 2+r.IntN(addrs))
			switch o := have[addr]; {
			case o == nil, r.IntN(10) == 0: // or its host died, and the address was given away
				if o != nil {
					o.to = time.Now()
				}
				next := &owned{host: fmt.Sprint("h", 1+r.IntN(hosts)), id: fmt.Sprintf("%016x", n), addr: addr, from: time.Now()}
				have[addr], ledger = next, append(ledger, next)
				tell(next, event.EndpointAttached)
				if r.IntN(4) == 0 {
					tell(next, event.EndpointAttached) // its name is known
				}
				if o != nil && r.IntN(2) == 0 {
					time.Sleep(time.Millisecond)
					tell(o, event.EndpointDetached) // the dead host comes back and cleans up
				}
			default:
				o.to = time.Now()
				delete(have, addr)
				tell(o, event.EndpointDetached)
			}
		}
		var now []api.Endpoint
		for addr, o := range have {
			now = append(now, api.Endpoint{ID: o.id, Name: "web", Network: "blue", Address: addr + "/24", Host: o.host})
		}
		span := time.Since(begin)
		for range 1000 {
			addr, at := fmt.Sprint("10.64.0.", 2+r.IntN(addrs)), begin.Add(rand.N(span))
			want := ""
			for _, o := range ledger {
				if o.addr == addr && !at.Before(o.from) && (o.to.IsZero() || at.Before(o.to)) {
					want += o.host + " " + o.id + ";"
				}
			}
			h, err := c.at().Endpoint(t.Context(), addr, at.Format(time.RFC3339Nano), now)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, s := range h.Spans {
				got += s.Host + " " + s.ID + ";"
			}
			if got != want || len(h.Unasked) != 1 {
				t.Fatalf("%s at %s: %q, want %q; %v", addr, at, got, want, h.Unasked)
			}
		}
	})
}

func TestSpans(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0).UTC() }
	on := func(s int, host, id string) api.Event {
		return api.Event{At: at(s), Host: host, Kind: string(event.EndpointAttached), Subject: "web", Network: "blue", Endpoint: id, Addr: "10.64.0.5", By: "docker"}
	}
	off := func(s int, host, id string) api.Event {
		e := on(s, host, id)
		e.Kind, e.Text = string(event.EndpointDetached), "its sandbox is gone"
		return e
	}
	for _, tt := range []struct {
		name    string
		events  []api.Event
		current []api.Endpoint
		want    string // host id from-to
	}{
		{"one that goes on", []api.Event{on(1, "h1", "a")}, nil, "h1 a 1-…"},
		{"one that ended", []api.Event{on(1, "h1", "a"), off(2, "h1", "a")}, nil, "h1 a 1-2"},
		{"begun before what is written down", []api.Event{off(2, "h1", "a")}, nil, "h1 a …-2"},
		{"ended without a word", []api.Event{on(1, "h1", "a"), on(5, "h2", "b")}, nil, "h1 a 1-5; h2 b 5-…"},
		{"clocks that differ", []api.Event{on(1, "h1", "a"), on(5, "h2", "b"), off(6, "h1", "a")}, nil, "h1 a 1-5; h2 b 5-…"},
		{"older than the history", nil, []api.Endpoint{{ID: "a", Host: "h1", Address: "10.64.0.5/24"}}, "h1 a …-…"},
		{"there, and known", []api.Event{on(1, "h1", "a")}, []api.Endpoint{{ID: "a", Host: "h1", Address: "10.64.0.5/24"}}, "h1 a 1-…"},
		{"again, with the same id", []api.Event{on(1, "h1", "a"), off(2, "h1", "a"), on(3, "h1", "a")}, nil, "h1 a 1-2; h1 a 3-…"},
	} {
		var got []string
		edge := func(when time.Time) string {
			if when.IsZero() {
				return "…"
			}
			return fmt.Sprint(when.Unix())
		}
		for _, s := range Spans(tt.events, tt.current) {
			got = append(got, fmt.Sprintf("%s %s %s-%s", s.Host, s.ID, edge(s.From), edge(s.To)))
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
}
