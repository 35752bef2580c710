package doctor_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// finding is what doctor -o json prints.
type finding struct {
	ID, State, Subject, Evidence, Hint string
	Since                              time.Time
}

func doctor(t *testing.T, h *agenttest.Host, flags ...string) ([]finding, agenttest.Result) {
	t.Helper()
	r := h.Ctl(append([]string{"doctor", "-o", "json"}, flags...)...)
	var all []finding
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return all, r
}

// of is a finding by its id, and where there are several by its subject.
func of(all []finding, id, subject string) (finding, error) {
	i := slices.IndexFunc(all, func(f finding) bool { return f.ID == id && (subject == "" || f.Subject == subject) })
	if i < 0 {
		return finding{}, fmt.Errorf("no finding %s of %q in %+v", id, subject, all)
	}
	return all[i], nil
}

// finds waits until doctor finds something in that state, and says words of it.
func finds(t *testing.T, h *agenttest.Host, id, subject, state string, words ...string) (f finding) {
	t.Helper()
	agenttest.Eventually(t, 15*time.Second, fmt.Sprintf("%s: %s of %q is %s: %q", h.Name, id, subject, state, words), func() (err error) {
		all, _ := doctor(t, h)
		if f, err = of(all, id, subject); err != nil {
			return err
		}
		for _, w := range words {
			if !strings.Contains(f.Evidence, w) {
				return fmt.Errorf("it does not say %q: %+v", w, f)
			}
		}
		if f.State != state || (state == "ok") != f.Since.IsZero() || (state == "ok") != (f.Hint == "") {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	return f
}

func TestDoctorSeesWhatSurroundsTheAgent(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "iptables-legacy")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	named := func(servers ...string) {
		text := ""
		for _, s := range servers {
			text += "nameserver " + s + "\n"
		}
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	answers, silent := agenttest.NamedServer.String(), "198.51.100.99"
	named(answers)
	l := agenttest.NewLab(t, agenttest.Config{})
	for _, h := range l.Hosts {
		h.More = []string{"--dns-resolv-conf", conf}
	}
	l.Assemble()
	agenttest.AnswerOutside(t, l)
	one, two, three := l.Host(1), l.Host(2), l.Host(3)
	one.CreateNetwork("blue")
	for i, h := range l.Hosts {
		h.Endpoint("blue", fmt.Sprintf("web%d", i+1))
	}

	for id, says := range map[string]string{
		"conntrack": "", "uplink": "eth0 has 192.0.2.1 and carries packets of 1500 bytes; driver veth", "forwarding": "eth0.forwarding=1, 1 networks",
		"ways": "to 2 members leave by eth0", "space": "files more", "clock": "clocks of 2 members agree", "firewall": "rules of others",
		"resolvers": "1 of 1 resolvers for other names answer: " + answers, "store-latency": "embedded", "releases": "all 3 members run agentd ",
	} {
		if f := finds(t, one, id, "", "ok", says); id == "store-latency" && strings.Contains(f.Evidence, "of 0 requests") {
			t.Errorf("%+v", f)
		}
	}
	for _, port := range []string{"4798/tcp", "4798/udp", "4799/udp"} {
		finds(t, one, "port", port, "ok", "is the agent's")
	}
	finds(t, one, "program", "nft", "ok", "nftables")
	if r := one.Ctl("doctor"); r.Code != 0 {
		t.Errorf("a healthy host: %s", r)
	}

	named(answers, silent)
	finds(t, one, "resolvers", silent, "warn", "1 of 2", silent+":53 does not: no answer within 1s")
	if r := one.Ctl("doctor"); r.Code != 0 {
		t.Errorf("it deserves a look, and no more: %s", r)
	}
	agenttest.WantError(t, one.Ctl("doctor", "--strict"), 1)
	named(silent)
	finds(t, one, "resolvers", silent, "fail", "0 of 1")
	agenttest.WantError(t, one.Ctl("doctor"), 1)
	says(t, one, "degraded", "dns", "no resolver answers for other names: "+silent)
	named(answers)
	says(t, one, "ok", "dns", "answering")
	finds(t, one, "resolvers", "", "ok")

	two.NS.Must(t, "ip", "link", "set", "eth0", "mtu", "1300")
	finds(t, two, "uplink", "eth0", "warn", "1300 bytes")
	two.NS.Must(t, "ip", "link", "set", "eth0", "mtu", "1500")
	finds(t, two, "uplink", "eth0", "ok", "1500 bytes")

	two.NS.Must(t, "iptables-legacy", "-A", "OUTPUT", "-d", "203.0.113.9", "-j", "ACCEPT")
	two.NS.Must(t, "nft", "add", "table", "inet", "theirs")
	finds(t, two, "firewall", "iptables-legacy", "warn", "inet theirs", "in the old iptables: filter: both filter")

	two.NS.Must(t, "ip", "link", "add", "tun9", "type", "veth", "peer", "name", "tun8")
	two.NS.Must(t, "ip", "addr", "add", "198.18.0.1/24", "dev", "tun9")
	two.NS.Must(t, "ip", "link", "set", "tun8", "up")
	two.NS.Must(t, "ip", "link", "set", "tun9", "up")
	two.NS.Must(t, "sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1")
	two.NS.Must(t, "ip", "route", "add", one.Addr.String()+"/32", "dev", "tun9")
	finds(t, two, "ways", "eth0", "fail", "to h1 by tun9", "what those members send to eth0 is dropped")
	two.NS.Must(t, "ip", "route", "del", one.Addr.String()+"/32", "dev", "tun9")
	finds(t, two, "ways", "eth0", "ok")

	// Without an agent it says what it sees itself. Of the default one the ports are known.
	three.Kill()
	agenttest.WantError(t, three.Ctl("doctor"), 1)
	all, _ := doctor(t, three)
	if f, err := of(all, "agent", ""); err != nil || f.State != "fail" || !strings.Contains(f.Evidence, "is not running") || !strings.Contains(f.Hint, "agentd --run-dir ") {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := of(all, "conntrack", ""); err != nil {
		t.Error(err)
	}
	taken, err := three.NS.ListenTCP(netip.AddrPortFrom(three.Addr, 4798))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	agenttest.Eventually(t, 10*time.Second, "who has the port is named", func() error {
		r := three.NS.Run(filepath.Join(agenttest.Programs(t), "agentctl"), "doctor")
		if r.Code != 1 || !strings.Contains(r.Stdout, "4798/tcp, for gossip, is held by doctor.test (pid ") || !strings.Contains(r.Stdout, "4798/udp, for gossip, is free") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
