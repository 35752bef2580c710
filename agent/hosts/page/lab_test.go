package page_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/agent/api"
)

// shop is three hosts whose endpoints are on two networks, with a page of the first.
type shop struct {
	*agenttest.Lab
	*tab
}

func newShop(t *testing.T) shop {
	t.Helper()
	agenttest.Need(t, "chromium")
	l := agenttest.NewCluster(t, agenttest.Config{})
	one := l.Host(1)
	one.CreateNetwork("shop")
	one.CreateNetwork("metrics")
	for i, names := range [][]string{{"web", "api"}, {"db", "cache"}, {"worker", "mail"}} {
		for _, name := range names {
			l.Host(i+1).Endpoint("shop", name)
		}
		l.Host(i+1).Endpoint("metrics", fmt.Sprintf("exporter%d", i+1), "--label", "team=platform")
	}
	agenttest.Eventually(t, 30*time.Second, "all tunnels are proven", func() error {
		var checks api.Status
		one.CtlJSON(&checks, "status", "-o", "json")
		for _, c := range checks.Checks {
			if c.Name == "tunnel" && c.State == "ok" && strings.HasPrefix(c.Detail, "proven to 2 of 2 members") {
				return nil
			}
		}
		return fmt.Errorf("%+v", checks.Checks)
	})
	return shop{l, open(t, ui(t, one), wide)}
}

// The page shows what the commands print, and follows what happens without being asked.
func TestPageOfALivingCluster(t *testing.T) {
	s := newShop(t)
	one := s.Host(1)
	t.Run("map", func(t *testing.T) {
		s.t = t
		var endpoints []api.Endpoint
		one.CtlJSON(&endpoints, "endpoint", "ls", "-o", "json")
		s.view("#map", "Map")
		s.says(fmt.Sprintf("3 hosts, 2 networks, %d endpoints", len(endpoints)), "proven to 2 of 2 members")
		for _, e := range endpoints {
			s.until(e.Name+" is in the box of its host", fmt.Sprintf(
				`[...document.querySelectorAll('.host[aria-label="host %s"] li')].some(li => li.innerText.includes(%q) && %q.startsWith(li.querySelector(".mono").innerText))`, e.Host, e.Name, e.Address))
		}
		s.until("every line is green", `document.querySelectorAll("a.way.ok").length === 3`)
		s.shoot("map")
	})
	t.Run("tunnel", func(t *testing.T) {
		s.t = t
		s.view("#tunnel", "Tunnel")
		s.until("every cell is green", `document.querySelectorAll(".cell.ok").length === 6`)
		s.shoot("tunnel")
	})
	t.Run("health", func(t *testing.T) {
		s.t = t
		var st api.Status
		one.CtlJSON(&st, "status", "-o", "json")
		s.view("#health", "Health")
		for _, c := range st.Checks {
			said, _, _ := strings.Cut(c.Detail, ",") // the rest may be an age
			s.says(c.Name, said)
		}
		s.run("compare", click("button"))
		s.says("objects compared")
		s.shoot("health")
	})
	agent := api.NewClient(one.Socket())
	t.Run("networks", func(t *testing.T) {
		s.t = t
		s.view("#networks", "Networks")
		networks, err := agent.Networks(t.Context())
		if err != nil || len(networks) != 2 {
			t.Fatalf("%+v, %v", networks, err)
		}
		for _, n := range networks {
			c := n.IPAM.Config[0]
			s.says(n.Name, fmt.Sprintf("VNI %d", n.VNI), fmt.Sprintf("MTU %d", n.MTU), c.Subnet, c.Gateway, fmt.Sprintf("%d of %d,%03d addresses in use", len(n.Containers), c.Addresses/1000, c.Addresses%1000))
			for host, blocks := range c.Blocks {
				s.says(host + " " + strings.Join(blocks, " "))
			}
			if len(c.Blocks) != 3 {
				t.Errorf("%s: blocks %v", n.Name, c.Blocks)
			}
		}
		s.shoot("networks")
	})
	t.Run("endpoints", func(t *testing.T) {
		s.t = t
		s.view("#endpoints", "Endpoints")
		list, err := agent.Endpoints(t.Context(), api.EndpointFilter{All: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			addr, _, _ := strings.Cut(e.Address, "/")
			s.says(fmt.Sprintf("%s %s %s %s ✓%s", e.Name, e.Network, addr, e.Host, e.Status))
		}
		s.run("search", chromedp.SendKeys(`input[type="search"]`, "platform h2", chromedp.ByQuery))
		s.until("one is found", `document.querySelectorAll(".endpoints tbody tr").length === 1`)
		s.run("open it", click(".endpoints button"))
		s.says("1 of 9 endpoints", "team=platform", "exporter2.metrics.weft.internal", "exporter2 on h2")
		s.shoot("endpoints")
		s.view("#endpoints?host=h3", "Endpoints")
		s.until("those of one host", `document.querySelectorAll(".endpoints tbody tr").length === 3 && document.querySelector("input[type=search]").value === ""`)
	})
	t.Run("events", func(t *testing.T) {
		s.t = t
		s.view("#events", "Events")
		if err := agent.Events(t.Context(), api.EventQuery{Since: "1h", All: true}, func(i api.EventItem) error {
			if i.Event != nil {
				s.says(fmt.Sprintf("%s %s %s", i.Event.Host, i.Event.Kind, i.Event.Text))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Host(3).Endpoint("shop", "late")
		s.says("h3 endpoint-attached late attached to shop by root (uid 0)") // without a reload
		s.shoot("events")
		s.view("#map", "Map")
		s.says("3 hosts, 2 networks, 10 endpoints", "late")
	})
	t.Run("ask", func(t *testing.T) {
		s.t = t
		s.view("#ask?from=web&to=db", "Ask")
		s.until("the form is filled", `document.querySelector(".why-form input").value === "web"`)
		s.run("ask", click(".why-form button"))
		s.says("web reaches db")
		y, err := agent.Why(t.Context(), api.WhyRequest{From: "web", To: "db", Port: 81})
		if err != nil || y.Works {
			t.Fatalf("%+v, %v", y, err)
		}
		s.run("ask for a port", chromedp.SendKeys(`.why-form input[type="number"]`, "81", chromedp.ByQuery), click(".why-form button"))
		s.says(y.Sentence)
		for i, step := range y.Steps {
			s.until("step "+step.Step, fmt.Sprintf(`document.querySelector(".steps li.%s:nth-child(%d)")?.innerText.includes(%q)`, step.State, i+1, step.Step))
		}
		s.run("resolve", chromedp.SendKeys(`.name-form input`, "cache.shop", chromedp.ByQuery), click(".name-form button"))
		a, err := agent.Query(t.Context(), api.DNSQuery{Name: "cache.shop"})
		if err != nil || len(a.Values) != 1 {
			t.Fatalf("%+v, %v", a, err)
		}
		s.says("NOERROR", a.Values[0])
		s.shoot("ask")
	})
	t.Run("cut", func(t *testing.T) {
		s.t = t
		s.view("#map", "Map")
		s.Host(2).NS.Must(t, "nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in udp dport 4799 ip saddr 192.0.2.1 drop")
		// Fifteen seconds are the promise; the page asks every three.
		took := agenttest.Eventually(t, 20*time.Second, "the line between the two turns red", func() error {
			if !js[bool](s.tab, `!!document.querySelector('a.way.fail[href="#tunnel/h1/h2"]')`) {
				time.Sleep(30 * time.Millisecond)
				return fmt.Errorf("%s", s.text("main"))
			}
			return nil
		})
		t.Logf("red after %v", took.Round(time.Millisecond))
		s.until("the state says so", `document.querySelector(".now").innerText.includes("degraded")`)
		const why = "4799/udp is blocked from h1 to h2: h2 does not let it in"
		s.until("the sentence stands above", fmt.Sprintf(`document.querySelector(".alarm").innerText.includes(%q)`, why))
		s.dress(poster, "light")
		s.shoot("map-cut")
		s.dress(wide, "light")
		s.view("#tunnel/h1/h2", "Tunnel")
		s.says(why, "nft list ruleset # on h2")
		s.shoot("tunnel-cut")
		s.Host(2).NS.Must(t, "nft", "delete table inet wall")
		s.view("#map", "Map")
		s.until("the line is green again", `document.querySelectorAll("a.way.ok").length === 3 && !document.querySelector(".alarm")`)
	})
	t.Run("agent away", func(t *testing.T) {
		s.t = t
		s.agentIsAway(true)
		one.Kill()
		s.until("it says that the agent is away", `document.querySelector(".now").innerText.includes("no answer") && document.querySelector(".alarm").innerText.includes("is not running")`)
		s.until("and what to type", `document.querySelector(".alarm .line").innerText.includes("agentd --run-dir")`)
		one.Start()
		s.until("it goes on by itself", `document.querySelector(".now").innerText.includes("ok") && document.querySelector(".beat").innerText === "live" && !document.querySelector(".alarm")`)
		s.agentIsAway(false)
		s.view("#events", "Events")
		s.says("h1 agent-started")
		s.view("#map", "Map")
	})
	t.Run("looks", func(t *testing.T) {
		s.t = t
		for _, look := range []struct {
			size   size
			scheme string
		}{{wide, "dark"}, {narrow, "light"}, {narrow, "dark"}} {
			s.dress(look.size, look.scheme)
			for _, view := range [][2]string{{"map", "Map"}, {"tunnel", "Tunnel"}, {"tunnel/h1/h2", "Tunnel"}, {"networks", "Networks"}, {"endpoints", "Endpoints"}, {"events", "Events"},
				{"ask", "Ask"}, {"health", "Health"}} {
				s.view("#"+view[0], view[1])
				s.until("it has the width", fmt.Sprintf(`innerWidth === %d`, look.size.width))
				s.fits(view[0])
				s.named(view[0])
				s.shoot(fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(view[0], "/", "-"), look.scheme, look.size.width))
			}
		}
	})
}
