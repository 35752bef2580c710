package why_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// answer is what why -o json prints.
type answer struct {
	Works          bool
	Sentence, Hint string
	Steps          []struct{ Step, Host, State, Evidence string }
}

// ask asks on a host, and measures.
func ask(t *testing.T, h *agenttest.Host, args ...string) (answer, agenttest.Result, time.Duration) {
	t.Helper()
	start := time.Now()
	r := h.Ctl(append([]string{"why", "-o", "json"}, args...)...)
	took := time.Since(start)
	var a answer
	if r.Stdout != "" {
		if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	return a, r, took
}

// street is three hosts: web on h1, db on h2 which serves port 80 and the datagram port
// 53, other on a network that is not theirs.
type street struct {
	*agenttest.Lab
	t       *testing.T
	web, db *agenttest.Sandbox
	fill    *strings.Replacer // of what is written in capitals in a table
}

func newStreet(t *testing.T) *street {
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("red")
	l.Host(1).MustCtl("network", "create", "closed", "--internal")
	s := &street{Lab: l, t: t}
	l.Host(1).MustCtl("network", "create", "lone", "-o", "host_access=none")
	web, a := l.Host(1).Endpoint("blue", "web")
	db, b := l.Host(2).Endpoint("blue", "db", "--alias", "database")
	_, other := l.Host(3).Endpoint("red", "other")
	_, app := l.Host(3).Endpoint("blue", "app", "-p", "8080:80")
	l.Host(1).Endpoint("closed", "shut")
	l.Host(1).Endpoint("lone", "hermit")
	s.web, s.db = web, db
	// H1 to H3 are the hosts' namespaces, WEB and DB the sandboxes, WIP, DIP, AIP and
	// OTHER addresses of endpoints, GW the gateway of blue.
	s.fill = strings.NewReplacer("SWITCH", string(l.Switch), "H1", string(l.Host(1).NS), "H2", string(l.Host(2).NS), "H3", string(l.Host(3).NS),
		"WEB", string(web.NS), "DB", string(db.NS), "WIP", a.Addr().String(), "DIP", b.Addr().String(), "AIP", app.Addr().String(), "OTHER", other.Addr().String(),
		"WMAC", a.MAC, "DMAC", b.MAC, "GW", l.Host(1).Network("blue").Gateway().String(), "INTERNET", agenttest.InternetAddr.String())
	db.NS.ServeHTTP(t, b.Addr(), "here")
	db.Background("busybox", "httpd", "-f", "-p", "127.0.0.1:83", "-h", "/tmp")
	s.awaitWorks()
	return s
}

func (s *street) awaitWorks() {
	s.t.Helper()
	agenttest.Eventually(s.t, 20*time.Second, "web reaches db", func() error {
		if y, r, _ := ask(s.t, s.Host(1), "web", "db", "80"); !y.Works {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// on runs a line of a table.
func (s *street) on(line string) {
	s.t.Helper()
	if line == "" {
		return
	}
	if r := agenttest.Run("", "sh", "-ec", s.fill.Replace(line)); r.Code != 0 {
		s.t.Fatal(r)
	}
}

const (
	wall = "ip netns exec %s nft 'add table inet wall; add chain inet wall c { type filter hook %s priority 0; }; add rule inet wall c %s drop'"
	open = "ip netns exec %s nft delete table inet wall"
)

// faults are what is done to the street, and what why has to say: a part of the sentence,
// the host that the broken step is on, and a part of the hint.
type fault struct {
	name, damage, repair string
	ask                  []string // of h1
	says, host, hint     string
}

var faults = []fault{
	{"nothing listens", "", "", []string{"web", "db", "81"}, "nothing listens on 81/tcp in db; open there: 80", "h2", "ss -lnp"},
	{"no such port, by datagram", "", "", []string{"web", "db", "80/udp"}, "nothing listens on 80/udp in db", "h2", "ss -lnp"},
	{"the name is mistyped", "", "", []string{"web", "dbb", "80"}, "near it: db", "h1", "agentctl why web db"},
	{"an alias is mistyped", "", "", []string{"web", "databse", "80"}, "near it: database", "h1", "agentctl why web database"},
	{"another network", "", "", []string{"web", "other"}, "no network has both: other is on red", "h1", "agentctl network connect red web"},
	{"another network, by address", "", "", []string{"web", "OTHER"}, "no network has both: web is on blue, other on red", "h1", "agentctl network connect red web"},
	{"internal", "", "", []string{"shut", "INTERNET"}, "network closed is internal", "h1", "agentctl network inspect closed"},
	{"another host's endpoint, from a host", "", "", []string{"host", "db"}, "host_access=local", "h1", "agentctl network inspect blue"},

	{"SRC's link is down", "ip -n WEB link set eth0 down", "ip -n WEB link set eth0 up; ip -n WEB route replace default via GW", []string{"web", "DIP", "80"}, "eth0 in web is down", "h1", "ip link set eth0 up"},
	{"SRC lost its address", "ip -n WEB addr flush dev eth0", "AGAIN", []string{"web", "DIP", "80"}, "web has lost its address", "h1", "agentctl endpoint inspect web"},
	{"SRC has another route", "ip -n WEB route add DIP via GW", "ip -n WEB route del DIP", []string{"web", "db", "80"}, "although it is on the same network", "h1", "ip route get"},
	{"SRC has a blackhole", "ip -n WEB route add blackhole DIP", "ip -n WEB route del blackhole DIP", []string{"web", "db", "80"}, "web has no route to", "h1", "ip route"},
	{"SRC's own filter", fmt.Sprintf(wall, "WEB", "output", "tcp dport 80"), fmt.Sprintf(open, "WEB"), []string{"web", "db", "80"}, "the packet filter in web drops what it sends", "h1", "nft -a list chain inet wall c"},
	{"SRC drops the answer", fmt.Sprintf(wall, "WEB", "input", "ip saddr DIP"), fmt.Sprintf(open, "WEB"), []string{"web", "db", "80"}, "the packet filter in web drops what comes", "h1", "nft -a list chain inet wall c"},
	{"DST's link is down", "ip -n DB link set eth0 down", "ip -n DB link set eth0 up; ip -n DB route replace default via GW", []string{"web", "db", "80"}, "eth0 in db is down", "h2", "ip link set eth0 up"},
	{"DST's filter", fmt.Sprintf(wall, "DB", "input", "tcp dport 80"), fmt.Sprintf(open, "DB"), []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"DST's filter drops the answer", fmt.Sprintf(wall, "DB", "output", "ip daddr WIP"), fmt.Sprintf(open, "DB"), []string{"web", "db", "80"}, "the packet filter in db drops what it sends", "h2", "nft -a list chain inet wall c"},
	{"DST has no way back", "ip -n DB route add unreachable WIP", "ip -n DB route del unreachable WIP", []string{"web", "db", "80"}, "db has no route to", "h2", "ip route"},

	{"h2 drops the tunnel", fmt.Sprintf(wall, "H2", "input", "udp dport 4799"), fmt.Sprintf(open, "H2"), []string{"web", "db", "80"}, "h2 drops what h1 sends to it on udp port 4799: nft table inet wall, chain c", "h1", "udp dport 4799 accept # on h2"},
	{"h1 drops the tunnel's answers", fmt.Sprintf(wall, "H1", "input", "udp dport 4799"), fmt.Sprintf(open, "H1"), []string{"web", "db", "80"}, "h1 drops what h2 sends to it on udp port 4799", "h1", "udp dport 4799 accept # on h1"},
	{"h1 does not send", fmt.Sprintf(wall, "H1", "output", "udp dport 4799"), fmt.Sprintf(open, "H1"), []string{"web", "db", "80"}, "h1 drops what it sends to h2 on udp port 4799", "h1", "# on h1"},
	{"h2 does not answer through the tunnel", fmt.Sprintf(wall, "H2", "output", "udp dport 4799"), fmt.Sprintf(open, "H2"), []string{"web", "db", "80"}, "h2 drops what it sends to h1 on udp port 4799", "h1", "# on h2"},
	{"a drop before anything else", fmt.Sprintf(wall, "H2", "prerouting", "ip saddr 192.0.2.1 udp dport 4799"), fmt.Sprintf(open, "H2"), []string{"web", "db", "80"}, "h2 drops what h1 sends", "h1", "# on h2"},
	{"a router between drops", fmt.Sprintf(between, "192.0.2.1", "192.0.2.2"), "ip netns exec SWITCH nft delete table bridge wall", []string{"web", "db", "80"}, "4799/udp is blocked from h1 to h2: it leaves h1 and does not come to h2", "h1", "tcpdump -ni any udp port 4799"},
	{"a router between drops the answers", fmt.Sprintf(between, "192.0.2.2", "192.0.2.1"), "ip netns exec SWITCH nft delete table bridge wall", []string{"web", "db", "80"}, "4799/udp is blocked from h2 to h1: it leaves h2 and does not come to h1", "h1", "tcpdump -ni any udp port 4799"},
	{"nowhere", "", "", []string{"web", "203.0.113.77"}, "web cannot reach 203.0.113.77", "", ""},

	{"it listens on loopback", "", "", []string{"web", "db", "83"}, "db listens on 127.0.0.1:83 alone", "h2", "ss -lnp"},
	{"a name of the world", "", "", []string{"web", "www.example.org", "80"}, "no upstream resolver answers for www.example.org", "h1", "agentctl status"},
	{"the network's name is mistyped", "", "", []string{"web", "db.blu", "80"}, "near it: db.blue", "h1", "agentctl why web db.blue"},
	{"SRC sends as another", "ip -n WEB addr add 10.64.15.99/32 dev eth0; ip -n WEB route add DIP dev eth0 src 10.64.15.99", "ip -n WEB route del DIP; ip -n WEB addr del 10.64.15.99/32 dev eth0", []string{"web", "db", "80"}, "as 10.64.15.99, and its address is", "h1", "ip route get"},
	{"SRC has another hardware address", "ip -n WEB link set eth0 address 02:00:00:00:00:77", "ip -n WEB link set eth0 address WMAC", []string{"web", "db", "80"}, "eth0 in web has the hardware address 02:00:00:00:00:77", "h1", "ip link set eth0 address"},
	{"DST has another hardware address", "ip -n DB link set eth0 address 02:00:00:00:00:77", "ip -n DB link set eth0 address DMAC", []string{"web", "db", "80"}, "eth0 in db has the hardware address 02:00:00:00:00:77", "h2", "ip link set eth0 address"},
	{"SRC has a wrong neighbour", "ip -n WEB neigh replace DIP lladdr 02:00:00:00:00:99 dev eth0 nud permanent", "ip -n WEB neigh del DIP dev eth0", []string{"web", "db", "80"}, "web takes 02:00:00:00:00:99 for the hardware address of db", "h1", "ip neigh del"},
	{"DST has a wrong neighbour", "ip -n DB neigh replace WIP lladdr 02:00:00:00:00:99 dev eth0 nud permanent", "ip -n DB neigh del WIP dev eth0", []string{"web", "db", "80"}, "db takes 02:00:00:00:00:99 for the hardware address of web", "h2", "ip neigh del"},
	{"SRC's prefix is too long", "ip -n WEB addr flush dev eth0; ip -n WEB addr add WIP/32 dev eth0", "ip -n WEB addr flush dev eth0; ip -n WEB addr add WIP/20 dev eth0; ip -n WEB route replace default via GW", []string{"web", "DIP", "80"}, "web has no route to", "h1", "ip route"},
	{"SRC has a rule", "ip -n WEB rule add to DIP prohibit", "ip -n WEB rule del to DIP prohibit", []string{"web", "db", "80"}, "web has no route to", "h1", "ip route"},
	{"DST lost its address", "ip -n DB addr flush dev eth0", "ip -n DB addr add DIP/20 dev eth0; ip -n DB route replace default via GW", []string{"web", "db", "80"}, "db has lost its address", "h2", "agentctl endpoint inspect db"},
	{"DST rejects", "ip netns exec DB nft 'add table inet wall; add chain inet wall c { type filter hook input priority 0; }; add rule inet wall c tcp dport 80 reject with tcp reset'", fmt.Sprintf(open, "DB"), []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"DST's policy", "ip netns exec DB nft 'add table inet wall; add chain inet wall c { type filter hook input priority 0; policy drop; }'", fmt.Sprintf(open, "DB"), []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"DST's filter of a device", fmt.Sprintf(wall, "DB", "input", "iifname eth0 tcp dport 80"), fmt.Sprintf(open, "DB"), []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"DST's filter by iptables", "ip netns exec DB iptables -A INPUT -p tcp --dport 80 -j DROP", "ip netns exec DB iptables -F", []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain ip filter INPUT"},
	{"a policy by iptables that lets answers in", "ip netns exec DB sh -ec 'iptables -P INPUT DROP; iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT'", "ip netns exec DB sh -ec 'iptables -P INPUT ACCEPT; iptables -F'", []string{"web", "db", "80"}, "the packet filter in db drops what comes", "h2", "nft -a list chain ip filter INPUT"},
	{"DST drops pings", fmt.Sprintf(wall, "DB", "input", "icmp type echo-request"), fmt.Sprintf(open, "DB"), []string{"web", "db"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"DST drops datagrams", fmt.Sprintf(wall, "DB", "input", "udp dport 53"), fmt.Sprintf(open, "DB"), []string{"web", "db", "53/udp"}, "the packet filter in db drops what comes", "h2", "nft -a list chain inet wall c"},
	{"a network without hosts, from a host", "", "", []string{"host", "hermit", "80"}, "host_access=none: no host reaches its endpoints", "h1", "agentctl network inspect lone"},
	{"a network without hosts, to a host", "", "", []string{"hermit", "192.0.2.2"}, "host_access=none: its endpoints reach no host", "h1", "agentctl network inspect lone"},
	{"the host has no way out", "ip -n H1 route add unreachable INTERNET", "ip -n H1 route del unreachable INTERNET", []string{"web", "INTERNET"}, "h1 has no route to INTERNET", "h1", "ip route get INTERNET # on h1"},
	{"the host's firewall forwards nothing", "ip netns exec H1 nft 'add table inet wall; add chain inet wall c { type filter hook forward priority 0; policy drop; }'", fmt.Sprintf(open, "H1"), []string{"web", "INTERNET"}, "another program's packet filter on h1 drops what endpoints send", "h1", "nft insert rule inet wall c"},
	{"the host's firewall takes no questions", fmt.Sprintf(wall, "H1", "input", "iifgroup 0x4f56 udp dport 53"), fmt.Sprintf(open, "H1"), []string{"web", "db", "80"}, "another program's packet filter on h1 drops the question for db", "h1", "th dport { 53, 4797 } accept"},
	{"another program's route", "ip -n H1 route add WIP dev eth0", "ip -n H1 route del WIP dev eth0", []string{"host", "WIP", "80"}, "another program's route on h1 takes what is for WIP", "h1", "ip route # on h1"},
	{"a port that another host publishes", "", "", []string{"web", "192.0.2.2", "8080"}, "nothing listens on 8080/tcp in h2: that is a port of app on h3", "h2", "ss -lnp"},
}

// endings are faults of h3, which does not come back from the last one.
var endings = []fault{
	{"the agent is down and nobody listens", "", "", []string{"web", "AIP", "81"}, "the way is open, and nothing listens on 81/tcp", "h1", "ss -lnp"},
	{"the host is dead", "ip -n H3 link set eth0 down", "", []string{"web", "app", "80"}, "app is on h3, which is not alive", "h1", "agentctl members"},
	{"the host is dead, by address", "", "", []string{"web", "AIP", "80"}, "h3, which app is on, is dead", "h1", "agentctl members"},
}

const between = "ip netns exec SWITCH nft 'add table bridge wall; add chain bridge wall way { type filter hook forward priority 0; }; add rule bridge wall way ip saddr %s ip daddr %s udp dport 4799 drop'"

func TestWhyNamesTheFault(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	right := 0
	for _, f := range faults {
		right += s.inject(f)
	}
	s.awaitWorks()
	s.Host(3).Kill()
	for _, f := range endings {
		right += s.inject(f)
	}
	t.Logf("%d of %d faults named", right, len(faults)+len(endings))
}

// inject makes a fault, has it explained and mends it. It returns 1 when it was named.
// What the agent hears of by a notification, or gossip finds out, takes it a moment.
func (s *street) inject(f fault) (right int) {
	s.t.Helper()
	one := s.Host(1)
	s.on(f.damage)
	args := slices.Clone(f.ask)
	for i := range args {
		args[i] = s.fill.Replace(args[i])
	}
	says, hint := s.fill.Replace(f.says), s.fill.Replace(f.hint)
	var y answer
	var took time.Duration
	_, err := agenttest.Await(30*time.Second, func() error {
		var r agenttest.Result
		y, r, took = ask(s.t, one, args...)
		if y.Works || r.Code != 1 || !strings.Contains(y.Sentence, says) || !strings.Contains(y.Hint, hint) || !brokenOn(y, f.host) {
			return fmt.Errorf("%s\nwant %q, on %s, %q", r, says, f.host, hint)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("%s: %v", f.name, err)
	} else {
		right = 1
	}
	if took > 15*time.Second {
		s.t.Errorf("%s: it took %v", f.name, took)
	}
	s.t.Logf("%v: %s", took.Round(10*time.Millisecond), y.Sentence)
	if f.repair == "AGAIN" {
		s.web.Attach("blue", "web")
	} else {
		s.on(f.repair)
	}
	return right
}

// brokenOn reports whether the first broken step is on a host.
func brokenOn(y answer, host string) bool {
	for _, s := range y.Steps {
		if s.State == "broken" {
			return host == "" || s.Host == host
		}
	}
	return false
}

// What works is said to work, from every side: also when the host that is asked is none
// of the two.
func TestWhySaysThatItWorks(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	dbIP, asked := s.fill.Replace("DIP"), 0
	for range 4 {
		for _, h := range s.Hosts {
			for _, args := range [][]string{{"web", "db", "80"}, {"web", "db"}, {"db", "web"}, {"web", dbIP, "80"}, {"web", "database", "80"},
				{"web", "db.blue", "80"}, {"web", "db.blue.weft.internal"}, {"web", "web"}, {"web", agenttest.InternetAddr.String()}} {
				if y, r, _ := ask(t, h, args...); !y.Works || r.Code != 0 {
					t.Errorf("%s: why %v: %s", h.Name, args, r)
				}
				asked++
			}
		}
	}
	t.Logf("said of %d healthy pairs", asked)
	agenttest.WantError(t, s.Host(1).Ctl("why", "nobody", "db"), 4)
	agenttest.WantError(t, s.Host(1).Ctl("why", "web", "db", "0"), 2)
	s.Host(2).Kill()
	agenttest.Eventually(t, 30*time.Second, "an agent that is down is said, and traffic goes on", func() error {
		y, r, _ := ask(t, s.Host(1), "web", dbIP, "80")
		if !y.Works || !strings.Contains(r.Stdout, "although") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
