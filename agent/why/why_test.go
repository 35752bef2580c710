package why_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/why"
	"github.com/weft-net/weft/overlay"
)

var (
	webIP = netip.MustParseAddr("10.64.0.2")
	dbIP  = netip.MustParseAddr("10.64.0.3")
)

// healthy is two endpoints of two hosts that reach each other.
func healthy() why.Facts {
	inside := func(a netip.Addr) *overlay.Inside {
		return &overlay.Inside{Links: []overlay.InsideLink{{Name: "eth0", Up: true, MTU: 1450, MAC: overlay.MAC{2, a.As4()[3]}, Addrs: []netip.Prefix{netip.PrefixFrom(a, 20)}}},
			Way: overlay.InsideWay{Dev: "eth0"}, Ears: []overlay.Ear{{Addr: netip.IPv4Unspecified(), Port: 80}}}
	}
	return why.Facts{
		Src:  why.End{Kind: why.Endpoint, Name: "web", Addr: webIP, MAC: overlay.MAC{2, 2}, Network: "blue", Host: "h1", Status: "alive", Sandbox: "/run/netns/web"},
		Dst:  why.End{Kind: why.Endpoint, Name: "db", Addr: dbIP, MAC: overlay.MAC{2, 3}, Network: "blue", Host: "h2", Status: "alive", Sandbox: "/run/netns/db"},
		Name: &why.Name{Asked: "db", Rcode: "NOERROR", Values: []string{dbIP.String()}}, Proto: "tcp", Port: 80,
		Here: why.Side{In: inside(webIP)}, There: why.Side{In: inside(dbIP)}, Tunnel: why.Tunnel{Crossed: true, OK: true, Port: 4799},
		Trial: overlay.TrialAnswered, Took: time.Millisecond,
	}
}

// What needs a state of a kernel that no test can hold is judged here; all else is in
// agent/hosts/why.
func TestTheFirstBrokenStepIsTheAnswer(t *testing.T) {
	if y := why.Explain(healthy()); !y.Works || y.Sentence != "web reaches db port 80/tcp at 10.64.0.3: answered in 1.0 ms" || len(y.Steps) != 8 {
		t.Errorf("%+v", y)
	}
	silent := func(f *why.Facts) { f.Trial = overlay.TrialSilent }
	for name, c := range map[string]struct {
		change     func(*why.Facts)
		want, hint string
	}{
		"an entry is missing here":  {func(f *why.Facts) { f.Here.Drift = []string{"bridge fdb add X"} }, "the kernel of h1 is not as wanted; what is missing: bridge fdb add X", "agentctl verify --repair # on h1"},
		"an entry is missing there": {func(f *why.Facts) { f.There.Drift = []string{"bridge fdb add X"} }, "the kernel of h2 is not as wanted", "agentctl verify --repair # on h2"},
		"no direction is known": {func(f *why.Facts) {
			f.Tunnel = why.Tunnel{Crossed: true, Why: "4799/udp is blocked between h1 and h2", Hint: "nft list ruleset"}
		}, "4799/udp is blocked between", "nft list ruleset"},
		"the host is dead": {func(f *why.Facts) {
			f.Tunnel, f.Dst.Status, f.There = why.Tunnel{Crossed: true, Why: "blocked"}, "dead", why.Side{Err: "it is dead"}
		}, "h2, which db is on, is dead", "agentctl members"},
		"its agent is down": {func(f *why.Facts) { f.There = why.Side{Err: "its agent does not answer"} }, "h2 cannot be asked: its agent does not answer", "systemctl status agentd # on h2"},
		"it is gone":        {func(f *why.Facts) { f.There = why.Side{Unknown: true} }, "h2 has no endpoint db any more", "agentctl endpoint ls --host h2"},
		"it listens on loopback": {func(f *why.Facts) {
			f.There.In.Ears = []overlay.Ear{{Addr: netip.MustParseAddr("127.0.0.1"), Port: 80}}
		}, "db listens on 127.0.0.1:80 alone", "nsenter --net=/run/netns/db ss -lnp # on h2"},
		"the sandbox is gone":        {func(f *why.Facts) { f.Here = why.Side{InErr: "no such file"} }, "the sandbox of web cannot be looked into: no such file", "agentctl endpoint inspect web"},
		"another way out":            {func(f *why.Facts) { f.Here.In.Way.Dev = "eth1" }, "web sends what is for 10.64.0.3 to eth1, not to eth0", "ip route get 10.64.0.3"},
		"another address of its own": {func(f *why.Facts) { f.Here.In.Way.Src = netip.MustParseAddr("10.64.0.99") }, "web sends to 10.64.0.3 as 10.64.0.99, and its address is 10.64.0.2", "ip route get 10.64.0.3 # on h1"},
		"another hardware address":   {func(f *why.Facts) { f.There.In.Links[0].MAC[5] = 1 }, "eth0 in db has the hardware address 02:03:00:00:00:01, not 02:03:00:00:00:00", "ip link set eth0 address 02:03:00:00:00:00 # on h2"},
		"a wrong neighbour":          {func(f *why.Facts) { f.Here.In.Way.Hop = overlay.MAC{2, 9} }, "web takes 02:09:00:00:00:00 for the hardware address of db", "ip neigh del 10.64.0.3 dev eth0 # on h1"},
		"nobody listens, and its agent is down": {func(f *why.Facts) {
			f.There, f.Tunnel, f.Trial = why.Side{Err: "it is agent-down"}, why.Tunnel{Crossed: true, Why: "blocked"}, overlay.TrialRefused
		}, "the way is open, and nothing listens on 80/tcp", "ss -lnp"},
		"no way out of the host": {func(f *why.Facts) {
			f.Dst, f.There, f.Tunnel, f.Name = why.End{Kind: why.Outside, Name: "198.51.100.1", Addr: netip.MustParseAddr("198.51.100.1")}, why.Side{}, why.Tunnel{}, nil
			f.Here.Out = "network is unreachable"
		}, "h1 has no route to 198.51.100.1: network is unreachable", "ip route get 198.51.100.1 # on h1"},
		"names are not asked for": {func(f *why.Facts) {
			f.Here.Filters = []overlay.ForeignFilter{{Family: "inet", Table: "fw", Chain: "input", Input: true}}
			f.Trial = overlay.TrialAnswered
		}, "another program's packet filter on h1 drops the question for db: nft table inet fw, chain input", "nft insert rule inet fw input meta iifgroup"},
		"published elsewhere": {func(f *why.Facts) {
			f.Dst, f.Name, f.Tunnel, f.Port = why.End{Kind: why.Host, Name: "h2", Host: "h2", Addr: netip.MustParseAddr("192.0.2.2")}, nil, why.Tunnel{}, 8080
			f.Published = []string{"db on h3"}
		}, "nothing listens on 8080/tcp in h2: that is a port of db on h3", "ss -lnp # on h2"},
		"no cause":                {func(*why.Facts) {}, "TCP to 10.64.0.3 is not answered", "tcpdump"},
		"the name's host is dead": {func(f *why.Facts) { f.Name, f.Dst = &why.Name{Asked: "db", Away: []string{"h2"}}, why.End{Name: "db"} }, "db is on h2, which is not alive", "agentctl members"},
		"upstreams do not answer": {func(f *why.Facts) {
			f.Name, f.Dst = &why.Name{Asked: "go.dev", Rcode: "SERVFAIL"}, why.End{Name: "go.dev"}
		}, "no upstream resolver answers", "agentctl status"},
		"a route of another program": {func(f *why.Facts) {
			f.Src = why.End{Kind: why.Host, Name: "h1", Host: "h1"}
			f.Access.HostAccess = "full"
			f.Here.Taken = "10.64.0.0/24 dev tun0"
		}, "another program's route on h1 takes", "ip route # on h1"},
		"a filter of another program": {func(f *why.Facts) {
			f.Dst, f.There, f.Tunnel, f.Name = why.End{Kind: why.Outside, Name: "198.51.100.1", Addr: netip.MustParseAddr("198.51.100.1")}, why.Side{}, why.Tunnel{}, nil
			f.Here.Filters = []overlay.ForeignFilter{{Family: "inet", Table: "fw", Chain: "forward"}}
		}, "another program's packet filter on h1 drops", "nft insert rule inet fw forward"},
	} {
		f := healthy()
		silent(&f)
		c.change(&f)
		y := why.Explain(f)
		if y.Works || !strings.Contains(y.Sentence, c.want) || !strings.Contains(y.Hint, c.hint) {
			t.Errorf("%s: %q, hint %q, want %q, %q", name, y.Sentence, y.Hint, c.want, c.hint)
		}
	}
}

// A datagram that nobody answers is no fault, a connection is.
func TestSilenceIsNoFaultOfADatagram(t *testing.T) {
	f := healthy()
	f.Proto, f.Trial = "udp", overlay.TrialSilent
	if y := why.Explain(f); !y.Works || !strings.Contains(y.Sentence, "nobody has to answer") {
		t.Errorf("%+v", y)
	}
	f.Tunnel = why.Tunnel{Crossed: true, Why: "blocked"}
	if y := why.Explain(f); y.Works {
		t.Errorf("%+v", y)
	}
}

func TestNear(t *testing.T) {
	for _, c := range []struct {
		name, meant string
		want        bool
	}{{"db", "dbb", true}, {"database", "databse", true}, {"web", "wbe", false}, {"postgres", "psotgres", true}, {"a", "b", false}, {"web", "db", false}} {
		if got := why.Near(c.name, c.meant); got != c.want {
			t.Errorf("%s for %s: %v", c.name, c.meant, got)
		}
	}
}
