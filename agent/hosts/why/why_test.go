package why_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
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
	t           *testing.T
	web, db     *agenttest.Sandbox
	webIP, dbIP netip.Addr
}

func newStreet(t *testing.T) *street {
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("red")
	l.Host(1).MustCtl("network", "create", "closed", "--internal")
	s := &street{Lab: l, t: t}
	web, a := l.Host(1).Endpoint("blue", "web")
	db, b := l.Host(2).Endpoint("blue", "db", "--alias", "database")
	l.Host(3).Endpoint("red", "other")
	l.Host(1).Endpoint("closed", "shut")
	s.web, s.db, s.webIP, s.dbIP = web, db, a.Addr(), b.Addr()
	db.NS.ServeHTTP(t, b.Addr(), "here")
	agenttest.Eventually(t, 20*time.Second, "web reaches db", func() error {
		if y, r, _ := ask(t, l.Host(1), "web", "db", "80"); !y.Works {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	return s
}

// on runs a line of a table: H1 to H3 are the hosts' namespaces, F1 to F3 their fabrics,
// WEB and DB the sandboxes, WIP and DIP their addresses.
func (s *street) on(line string) {
	s.t.Helper()
	if line == "" {
		return
	}
	names := []string{"WEB", string(s.web.NS), "DB", string(s.db.NS), "WIP", s.webIP.String(), "DIP", s.dbIP.String()}
	for i, h := range s.Hosts {
		names = append(names, fmt.Sprintf("H%d", i+1), string(h.NS), fmt.Sprintf("F%d", i+1), string(h.Fabric))
	}
	if r := agenttest.Run("", "sh", "-ec", strings.NewReplacer(names...).Replace(line)); r.Code != 0 {
		s.t.Fatal(r)
	}
}

const (
	wall = "ip netns exec %s nft 'add table inet wall; add chain inet wall c { type filter hook %s priority 0; }; add rule inet wall c %s drop'"
	open = "ip netns exec %s nft delete table inet wall"
)

// faults are what is done to the street, and what why has to say: a part of the sentence,
// the host that the broken step is on, and a part of the hint.
var faults = []struct {
	name, damage, repair string
	ask                  []string // of h1
	says, host, hint     string
}{
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
	{"nowhere", "", "", []string{"web", "203.0.113.77"}, "web cannot reach 203.0.113.77", "", ""},
}

func TestWhyNamesTheFault(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	one := s.Host(1)
	other := one.Endpoints()["other"].Address
	fill := strings.NewReplacer("DIP", s.dbIP.String(), "WIP", s.webIP.String(), "GW", one.Network("blue").Gateway().String(),
		"OTHER", strings.Split(other, "/")[0], "INTERNET", agenttest.InternetAddr.String())
	right := 0
	for _, f := range faults {
		s.on(fill.Replace(f.damage))
		args := slices.Clone(f.ask)
		for i := range args {
			args[i] = fill.Replace(args[i])
		}
		y, r, took := ask(t, one, args...)
		if y.Works || r.Code != 1 || !strings.Contains(y.Sentence, f.says) || !strings.Contains(y.Hint, f.hint) || !brokenOn(y, f.host) {
			t.Errorf("%s: %s\nwant %q, on %s, %q", f.name, r, f.says, f.host, f.hint)
		} else {
			right++
		}
		if took > 15*time.Second {
			t.Errorf("%s: it took %v", f.name, took)
		}
		t.Logf("%v: %s", took.Round(10*time.Millisecond), y.Sentence)
		if f.repair == "AGAIN" {
			s.web.Attach("blue", "web")
		} else {
			s.on(fill.Replace(f.repair))
		}
		if f.repair != "" {
			agenttest.Eventually(t, 20*time.Second, f.name+" is mended", func() error {
				if y, r, _ := ask(t, one, "web", "db", "80"); !y.Works {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
		}
	}
	t.Logf("%d of %d faults named", right, len(faults))
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
	for _, h := range s.Hosts {
		for _, args := range [][]string{{"web", "db", "80"}, {"web", "db"}, {"db", "web"}, {"web", s.dbIP.String(), "80"}, {"web", "database", "80"},
			{"web", "db.blue", "80"}, {"web", "db.blue.weft.internal"}, {"web", "web"}, {"web", agenttest.InternetAddr.String()}} {
			if y, r, _ := ask(t, h, args...); !y.Works || r.Code != 0 {
				t.Errorf("%s: why %v: %s", h.Name, args, r)
			}
		}
	}
	agenttest.WantError(t, s.Host(1).Ctl("why", "nobody", "db"), 4)
	agenttest.WantError(t, s.Host(1).Ctl("why", "web", "db", "0"), 2)
	s.Host(2).Kill()
	agenttest.Eventually(t, 30*time.Second, "an agent that is down is said, and traffic goes on", func() error {
		y, r, _ := ask(t, s.Host(1), "web", s.dbIP.String(), "80")
		if !y.Works || !strings.Contains(r.Stdout, "although") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
