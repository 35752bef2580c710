package trial

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/trial/stage"
)

// Cast is what a run has on one host: two endpoints on the network a, one on b, one on c,
// which is internal. An address that is not valid is one that could not be made.
type Cast struct {
	Host   string
	Addr   netip.Addr // of the host in the underlay
	Actors map[string]stage.Placed
	Port   uint16 // of the host, published by a1; 0: none
}

// The actors of each host, by their network.
var roles = []role{{"a1", "a"}, {"a2", "a"}, {"b1", "b"}, {"c1", "c"}}

// role is what an actor does. Where Docker is, d1 is a container on the network a.
type role struct{ role, network string }

// Actor is what an endpoint of a run is called; the host is by its number.
func Actor(run, role string, host int) string { return fmt.Sprintf("%s-%d-%s", role, host+1, run) }

// alias is a second name of an actor.
func alias(run, role string, host int) string { return "also-" + Actor(run, role, host) }

// Check is one try with the name under which it is shown.
type Check struct {
	Name  string
	Host  string // that makes it
	Try   stage.Try
	Peer  string    // the other host, that has to be there as well
	Ask   [2]string // of why, when it fails: from and to; empty: why has nothing to say
	Lacks string    // an endpoint of it that could not be attached
}

// Outcome is a Check with how it came out.
type Outcome struct {
	Check
	Took            time.Duration
	Failed, Skipped string // the reason
	Hint            string
	Always          bool // it is shown whichever checks were asked for
}

const (
	// settling is how long what was made may take to be known everywhere.
	settling = 5 * time.Second
	// fragments is a datagram that no network carries whole.
	fragments = 6000
	// bulk is what TCP sends as packets of full size, many at once.
	bulk = 256 << 10
	// headers are those of IPv4 and ICMP around an echo's data.
	headers = 28
)

// Checks are those of a cast. They rely on nothing but their argument.
func Checks(run string, cast []Cast) []Check {
	l := &list{run: run, cast: cast}
	for i := range cast {
		l.names(i)
		l.local(i)
		l.docker(i)
		for j := range cast {
			if i != j {
				l.pair(i, j)
			}
			l.published(i, j)
		}
	}
	return l.all
}

// list gathers checks.
type list struct {
	run  string
	cast []Cast
	all  []Check
}

func (l *list) at(role string, host int) netip.AddrPort {
	return netip.AddrPortFrom(l.cast[host].Actors[role].Addr, stage.Port)
}

// add adds a check of a try from an actor of host i, or from the host itself, to host j.
func (l *list) add(what, role string, i, j int, t stage.Try, to string) {
	from, lacks := "host", ""
	if role != "" {
		from = Actor(l.run, role, i)
		t.From = from
		if _, ok := l.cast[i].Actors[role]; !ok {
			lacks = from
		}
	}
	if t.Kind != stage.Name && !t.To.Addr().IsValid() || t.Want == (netip.Addr{}).String() {
		lacks = cmp.Or(to, "the endpoint of "+l.cast[j].Host)
	}
	if t.Patience == 0 && !t.Silent {
		t.Patience = settling
	}
	c := Check{Name: fmt.Sprintf("%s/%s", what, l.cast[i].Host), Host: l.cast[i].Host, Peer: l.cast[j].Host, Try: t, Lacks: lacks}
	if i != j {
		c.Name += "-" + l.cast[j].Host
	}
	if !t.Silent && to != "" {
		c.Ask = [2]string{from, to}
	}
	l.all = append(l.all, c)
}

// names are what an endpoint of host i finds by name.
func (l *list) names(i int) {
	for j := range l.cast {
		a, other := l.cast[j].Actors["a1"].Addr, Actor(l.run, "a1", j)
		l.add("dns/name", "a1", i, j, stage.Try{Kind: stage.Name, Asked: other, Want: a.String()}, other)
	}
	j := (i + 1) % len(l.cast)
	a, other := l.cast[j].Actors["a1"].Addr, Actor(l.run, "a1", j)
	l.add("dns/alias", "a1", i, j, stage.Try{Kind: stage.Name, Asked: alias(l.run, "a1", j), Want: a.String()}, alias(l.run, "a1", j))
	l.add("dns/with-network", "a1", i, j, stage.Try{Kind: stage.Name, Asked: other + "." + stage.NetworkName(l.run, "a"), Want: a.String()}, other)
	l.add("dns/reverse", "a1", i, j, stage.Try{Kind: stage.Reverse, To: netip.AddrPortFrom(a, 0), Want: other}, other)
	l.add("dns/other-network", "a1", i, j, stage.Try{Kind: stage.Name, Asked: Actor(l.run, "b1", j), Silent: true}, "")
	l.add("dns/internal", "c1", i, j, stage.Try{Kind: stage.Name, Asked: Actor(l.run, "c1", j), Want: l.cast[j].Actors["c1"].Addr.String()}, Actor(l.run, "c1", j))
}

// local are within host i.
func (l *list) local(i int) {
	a1, a2 := Actor(l.run, "a1", i), Actor(l.run, "a2", i)
	l.add("local/tcp", "a1", i, i, stage.Try{Kind: stage.TCP, To: l.at("a2", i), Want: a2, Size: 1000}, a2)
	l.add("local/udp", "a2", i, i, stage.Try{Kind: stage.UDP, To: l.at("a1", i), Want: a1, Size: 1000}, a1)
	l.add("local/isolated", "b1", i, i, stage.Try{Kind: stage.TCP, To: l.at("a1", i), Silent: true}, "")
	l.add("local/host", "", i, i, stage.Try{Kind: stage.TCP, To: l.at("a1", i), Want: a1}, a1)
	host := netip.AddrPortFrom(l.cast[i].Addr, 0)
	l.add("egress/own-host", "a1", i, i, stage.Try{Kind: stage.Echo, To: host}, l.cast[i].Addr.String())
}

// docker are between the container of host i and the next host.
func (l *list) docker(i int) {
	there, ok := l.cast[i].Actors["d1"]
	if !ok {
		return
	}
	j := (i + 1) % len(l.cast)
	d, a := Actor(l.run, "d1", i), Actor(l.run, "a1", j)
	l.add("docker/out", "d1", i, j, stage.Try{Kind: stage.TCP, To: l.at("a1", j), Want: a, Size: bulk}, a)
	l.add("docker/asks", "d1", i, j, stage.Try{Kind: stage.Name, Asked: a, Want: l.cast[j].Actors["a1"].Addr.String()}, a)
	l.add("docker/in-tcp", "a1", j, i, stage.Try{Kind: stage.TCP, To: l.at("d1", i), Want: d, Size: bulk}, d)
	l.add("docker/in-udp", "a1", j, i, stage.Try{Kind: stage.UDP, To: l.at("d1", i), Want: d, Size: 1000}, d)
	l.add("docker/name", "a1", j, i, stage.Try{Kind: stage.Name, Asked: d, Want: there.Addr.String()}, d)
}

// pair are from host i to host j.
func (l *list) pair(i, j int) {
	to := Actor(l.run, "a1", j)
	l.add("pair/tcp", "a1", i, j, stage.Try{Kind: stage.TCP, To: l.at("a1", j), Want: to, Size: 1000}, to)
	l.add("pair/udp", "a1", i, j, stage.Try{Kind: stage.UDP, To: l.at("a1", j), Want: to, Size: 1000}, to)
	full := min(l.cast[i].Actors["a1"].MTU, l.cast[j].Actors["a1"].MTU) - headers
	l.add("size/full", "a1", i, j, stage.Try{Kind: stage.Echo, To: l.at("a1", j), Want: to, Size: max(full, 1), Whole: true}, to)
	l.add("size/fragments", "a1", i, j, stage.Try{Kind: stage.UDP, To: l.at("a1", j), Want: to, Size: fragments}, to)
	l.add("size/bulk", "a1", i, j, stage.Try{Kind: stage.TCP, To: l.at("a1", j), Want: to, Size: bulk}, to)
	l.add("isolated/network", "b1", i, j, stage.Try{Kind: stage.TCP, To: l.at("a1", j), Silent: true}, "")
	c := Actor(l.run, "c1", j)
	l.add("internal/tcp", "c1", i, j, stage.Try{Kind: stage.TCP, To: l.at("c1", j), Want: c, Size: 1000}, c)
	host := netip.AddrPortFrom(l.cast[j].Addr, 0)
	l.add("internal/closed", "c1", i, j, stage.Try{Kind: stage.Echo, To: host, Silent: true}, "")
	l.add("egress/host", "a1", i, j, stage.Try{Kind: stage.Echo, To: host}, l.cast[j].Addr.String())
}

// published are from host i, and from an endpoint of it, to the port that host j has.
func (l *list) published(i, j int) {
	if l.cast[j].Port == 0 {
		return
	}
	to, want := netip.AddrPortFrom(l.cast[j].Addr, l.cast[j].Port), Actor(l.run, "a1", j)
	l.add("published/tcp", "", i, j, stage.Try{Kind: stage.TCP, To: to, Want: want, Size: 1000}, "")
	l.add("published/udp", "", i, j, stage.Try{Kind: stage.UDP, To: to, Want: want, Size: 1000}, "")
	if i != j {
		l.add("published/from-endpoint", "b1", i, j, stage.Try{Kind: stage.TCP, To: to, Want: want, Size: 1000}, "")
	}
}
