package trial_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// ping shows which host answers and by which way, from every side, and what why says
// when nothing comes back.
func TestPing(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one := l.Host(1)
	one.CreateNetwork("blue")
	one.Endpoint("blue", "web")
	_, db := l.Host(2).Endpoint("blue", "db")
	agenttest.Eventually(t, 20*time.Second, "web reaches db", func() error {
		if r := one.Ctl("ping", "db", "--from", "web", "-c", "1"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	for _, c := range []struct {
		on, args  string
		host, way string
		exit      int
		says      string // in the error
	}{
		{"1", "db --from web", "h2", "tunnel to h2", 0, ""},
		{"3", "db --from web", "h2", "tunnel to h2", 0, ""},
		{"1", "web --from db --size 1400 --df", "h1", "tunnel to h1", 0, ""},
		{"1", "db --from web --size 30000", "h2", "tunnel to h2", 0, ""},
		{"1", "db --from web --size 2000 --df", "h2", "tunnel to h2", 1, "web reaches db with a small packet, and not with 2000 bytes"},
		{"1", "web", "h1", "bridge of h1", 0, ""},
		{"1", "h2", "h2", "out of h1 to h2", 0, ""},
		{"1", "h1", "h1", "on h1", 0, ""},
		{"1", agenttest.InternetAddr.String() + " --from web", "", "out of h1", 0, ""},
		{"1", db.Addr().String() + " --from host", "h2", "tunnel to h2", 1, "host_access=local"},
	} {
		r := l.Host(int(c.on[0] - '0')).Ctl(append([]string{"ping", "-c", "2", "-o", "json"}, strings.Fields(c.args)...)...)
		var p struct {
			Host, Way      string
			Sent, Received int
		}
		err := json.Unmarshal([]byte(r.Stdout), &p)
		back := map[int]int{0: 2, 1: 0}[c.exit]
		if err != nil || r.Code != c.exit || p.Host != c.host || p.Way != c.way || p.Sent != 2 || p.Received != back || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("ping %s on h%s: %v, %s", c.args, c.on, err, r)
		}
	}
	var m struct {
		Hosts []string
		Ways  []struct{ From, State string }
	}
	one.CtlJSON(&m, "ping", "--all", "-o", "json")
	if slices.Sort(m.Hosts); strings.Join(m.Hosts, " ") != "h1 h2 h3" || len(m.Ways) != 6 {
		t.Errorf("ping --all: %+v", m)
	}
	agenttest.WantError(t, one.Ctl("ping", "db", "--from", "nobody"), 4)
	agenttest.WantError(t, one.Ctl("ping", "nothing", "--from", "web"), 4)
	l.Host(2).Kill()
	if r := one.Ctl("ping", "--all"); r.Code != 1 || !strings.Contains(r.Stdout, "h2") || !strings.Contains(r.Stderr, "not asked: h2") {
		t.Errorf("ping --all with an agent that is down: %s", r)
	}
}
