package endpoints_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// An address that comes back with another MAC address is reached by all who knew it:
// on its own host, on another one, and by the host itself.
func TestAddressWithAnotherMACAddressIsReachedAtOnce(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	home := l.Host(2)
	web := home.Sandbox("web")
	a := web.Attach("blue", "web")
	addr := a.Addr()
	for _, mac := range []string{"02:00:00:00:07:01", "02:00:00:00:07:02", "02:00:00:00:07:03"} {
		for j, o := range from {
			if err := o.PingOnce(addr); err != nil {
				t.Fatalf("%s does not know it: %v", l.Hosts[j].Name, err)
			}
		}
		web.Detach("blue", "web")
		start := time.Now()
		web.Attach("blue", "web", "--ip", addr.String(), "--mac", mac)
		for j, o := range from {
			agenttest.Eventually(t, 2*time.Second, l.Hosts[j].Name+" reaches "+mac, func() error { return o.PingOnce(addr) })
		}
		t.Logf("%s reached by all %v after its attach began", mac, time.Since(start))
	}
}

// What was flushed in a sandbox is named by status, and the line that status prints
// puts it back.
func TestFlushedEndpointIsNamedAndTheHintPutsItRight(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	h := l.Host(1)
	h.CreateNetwork("blue")
	web, a := h.Endpoint("blue", "web")
	db, _ := l.Host(2).Endpoint("blue", "db")
	for _, damage := range []string{"ip addr flush dev eth0", "ip link set eth0 down", "ip route flush dev eth0"} {
		web.NS.Must(t, strings.Fields(damage)...)
		c := sandboxesCheck(h)
		if c.State != "warn" || !strings.Contains(c.Detail, "web on blue") {
			t.Errorf("after %q: %+v", damage, c)
		}
		if r := h.Type(c.Hint, nil); r.Code != 0 {
			t.Errorf("hint %q: %s", c.Hint, r)
		}
		if c := sandboxesCheck(h); c.State != "ok" {
			t.Errorf("after %q and the hint: %+v", damage, c)
		}
		if err := db.PingOnce(a.Addr()); err != nil {
			t.Errorf("after %q and the hint: %v", damage, err)
		}
	}
}

func sandboxesCheck(h *agenttest.Host) (found struct{ Name, State, Detail, Hint string }) {
	var st struct {
		Checks []struct{ Name, State, Detail, Hint string }
	}
	h.CtlJSON(&st, "status", "-o", "json")
	for _, c := range st.Checks {
		if c.Name == "sandboxes" {
			return c
		}
	}
	return found
}
