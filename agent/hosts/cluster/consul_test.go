package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What people and their tools do to Consul is named by status with the line to type,
// and whatever it is, no packet between endpoints is lost.
func TestConsulInOtherHands(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2, Store: agenttest.Consul})
	l.StopConsul()
	l.StartConsul("-client", "192.0.2.254 198.51.100.1", "-hcl",
		`acl { enabled = true, default_policy = "allow", tokens { initial_management = "`+management+`" } }`)
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	c1, _ := one.Endpoint("blue", "c1")
	_, a2 := two.Endpoint("blue", "c2")
	agenttest.Eventually(t, 10*time.Second, "c1 reaches c2", func() error { return c1.PingOnce(a2.Addr()) })
	ping, start := c1.StartPing(a2.Addr()), time.Now()
	for _, step := range []struct {
		name string
		does func(*testing.T, *agenttest.Lab)
	}{
		{"keys of somebody else", strayKeys},
		{"the key of a network is deleted", deletedNetwork},
		{"a token that may not see the hosts", blindToken},
		{"the record of another cluster", otherCluster},
		{"the server of one host is gone", movedServer},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.does(t, l)
			for _, h := range l.Hosts {
				said(t, h, "ok", "")
			}
		})
	}
	ping.AssertNoLoss(time.Since(start))
}

// management is the token that may do everything.
const management = "00000000-0000-4000-8000-000000000001"

// http asks the lab's Consul.
func http(t *testing.T, l *agenttest.Lab, method, path, body string) string {
	t.Helper()
	r := l.Internet.Run("curl", "-sS", "--fail-with-body", "-m", "5", "-X", method, "-H", "X-Consul-Token: "+management, "-d", body, l.ConsulURL()+"/v1/"+path)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// said waits until the check of the store, or of what is refused, is in a state and
// says so, and returns its hint.
func said(t *testing.T, h *agenttest.Host, state, says string) (hint string) {
	t.Helper()
	agenttest.Eventually(t, time.Minute, h.Name+": "+state+" "+says, func() error {
		all := checks(t, h)
		var seen []check
		for _, name := range []string{"store", "refused"} {
			c := all[name]
			if state != "ok" && c.State == state && strings.Contains(c.Detail, says) {
				hint = c.Hint
				return nil
			}
			if c.State != "ok" || state != "ok" {
				seen = append(seen, c)
			}
		}
		if len(seen) == 0 {
			return nil
		}
		return fmt.Errorf("%+v", seen)
	})
	return hint
}

func strayKeys(t *testing.T, l *agenttest.Lab) {
	one, two := l.Host(1), l.Host(2)
	strays := []string{"nets/", "nets/README", "hosts/x"}
	folder := "blocks/" + one.Network("blue").ID + "/" // which nobody reads just now
	for _, key := range append(strays, folder) {
		http(t, l, "PUT", "kv/weft/v1/"+key, "hello")
	}
	one.CreateNetwork("green")
	two.Endpoint("green", "leaf")
	one.MustCtl("network", "rm", "-f", "green")
	for _, key := range strays {
		said(t, two, "warn", "key weft/v1/"+key)
	}
	for line := range strings.Lines(said(t, one, "warn", "key weft/v1/nets/")) {
		line, _, _ = strings.Cut(line, " # ")
		words := append([]string{agenttest.Cached(t, "consul-1.12.9")}, strings.Fields(line)[1:]...)
		if r := l.Internet.Run(words...); r.Code != 0 {
			t.Errorf("hint %q: %s", line, r)
		}
	}
	http(t, l, "DELETE", "kv/weft/v1/"+folder, "")
}

func deletedNetwork(t *testing.T, l *agenttest.Lab) {
	http(t, l, "DELETE", "kv/weft/v1/nets/blue", "")
	agenttest.WantError(t, l.Host(2).Ctl("network", "create", "red", "--subnet", "10.77.0.0/24"), 5)
	agenttest.Eventually(t, time.Minute, "it is written back", func() error {
		if !strings.Contains(strings.Join(keys(t, l), "\n"), "/nets/blue") {
			return errors.New("no key of blue")
		}
		return nil
	})
}

// blindToken gives one host a token for which Consul leaves the hosts out of its
// answers, and then a better one.
func blindToken(t *testing.T, l *agenttest.Lab) {
	one, two := l.Host(1), l.Host(2)
	http(t, l, "PUT", "acl/policy", `{"Name":"blind","Rules":"key_prefix \"weft/\" { policy = \"write\" } key_prefix \"weft/v1/hosts/\" { policy = \"deny\" }"}`)
	var made struct{ SecretID string }
	if err := json.Unmarshal([]byte(http(t, l, "PUT", "acl/token", `{"Policies":[{"Name":"blind"}]}`)), &made); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(two.Dir, "token")
	give := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	give(made.SecretID)
	two.Stop()
	two.More = []string{"--consul-token-file", file}
	two.Start()
	one.MustCtl("network", "create", "narrow")
	s := two.Sandbox("narrow")
	agenttest.Eventually(t, time.Minute, "attach says that it is not permitted", func() error {
		_, r := s.TryAttach("narrow", "leaf")
		if r.Code != 7 || !strings.Contains(r.Stderr, "hint: ") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	give(management)
	agenttest.Eventually(t, time.Minute, "attach with a better token", func() error {
		if _, r := s.TryAttach("narrow", "leaf"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// otherCluster puts the record of another cluster, and no record at all, in the place
// of this one's.
func otherCluster(t *testing.T, l *agenttest.Lab) {
	ours := http(t, l, "GET", "kv/weft/v1/meta?raw", "")
	var meta map[string]any
	if err := json.Unmarshal([]byte(ours), &meta); err != nil {
		t.Fatal(err)
	}
	id := meta["cluster_id"]
	meta["cluster_id"] = strings.Repeat("f", 32)
	other, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	for says, value := range map[string]string{"another cluster": string(other), "junk": "junk"} {
		http(t, l, "PUT", "kv/weft/v1/meta", value)
		for _, h := range l.Hosts {
			said(t, h, "fail", says)
			said(t, h, "fail", fmt.Sprint(id))
		}
		http(t, l, "PUT", "kv/weft/v1/meta", ours)
	}
}

// movedServer takes one host the server at which it asks, and tells it of another.
func movedServer(t *testing.T, l *agenttest.Lab) {
	one, two := l.Host(1), l.Host(2)
	two.NS.Must(t, "nft", "add table ip wall { chain out { type filter hook output priority 0; ip daddr 192.0.2.254 tcp dport 8500 reject with tcp reset; }; }")
	said(t, two, "fail", "Consul at http://192.0.2.254:8500")
	two.MustCtl("join", one.Addr.String(), "--token-file", one.TokenFile(), "--consul", "http://198.51.100.1:8500")
	agenttest.Eventually(t, time.Minute, "a network by the other server", func() error {
		if r := two.Ctl("network", "create", "elsewhere"); r.Code != 0 && r.Code != 5 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
