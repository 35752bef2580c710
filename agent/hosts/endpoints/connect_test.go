package endpoints_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// defaultRoute is the device of a sandbox's default route, empty without one.
func defaultRoute(t *testing.T, s *agenttest.Sandbox) string {
	t.Helper()
	var routes []struct{ Dev string }
	if err := json.Unmarshal([]byte(s.NS.Must(t, "ip", "-j", "route", "show", "default")), &routes); err != nil {
		t.Fatal(err)
	}
	if len(routes) == 0 {
		return ""
	}
	return routes[0].Dev
}

// resolves waits until the C library of a sandbox finds exactly this address.
func resolves(t *testing.T, s *agenttest.Sandbox, name string, want netip.Addr) {
	t.Helper()
	agenttest.Eventually(t, 5*time.Second, fmt.Sprintf("%s resolves %s", s.NS, name), func() error {
		got, err := s.Getent(name)
		if err == nil && (len(got) != 1 || got[0] != want) {
			err = fmt.Errorf("got %v, want %v", got, want)
		}
		return err
	})
}

// A connected container has an interface, a name and the names of both
// networks; its default route stays where it was, moves when that network is
// taken away, and its last network may be taken, too.
func TestConnectedContainerIsOnBothNetworks(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("front")
	one.CreateNetwork("back")
	one.CreateNetwork("inner", "--internal")
	web, onFront := one.Endpoint("front", "web", "--label", "team=shop")
	client, onClient := two.Endpoint("front", "client")
	db, onDB := two.Endpoint("back", "db")
	// Somebody else's interface has the next name.
	web.NS.Must(t, "ip", "link", "add", "eth1", "type", "bridge")
	c := &connected{one: one, web: web, client: client, db: db, onFront: onFront, onClient: onClient, onDB: onDB}

	c.connectBack(t)
	c.assertBothSeen(t)
	one.MustCtl("network", "connect", "inner", onFront.ID[:6])
	c.disconnectFront(t)
	c.disconnectTheRest(t)
}

// connected is web, which is on front and then on back too, a client on front and
// a database on back.
type connected struct {
	one                             *agenttest.Host // of web
	web, client, db                 *agenttest.Sandbox
	onFront, onBack, onClient, onDB agenttest.Attachment // of web, web, client and db
}

// connectBack puts web on back, which leaves its default route alone.
func (c *connected) connectBack(t *testing.T) {
	c.one.CtlJSON(&c.onBack, "network", "connect", "back", "web", "--alias", "store", "-o", "json")
	if c.onBack.Name != "web" || c.onBack.Interface != "eth2" || c.onBack.Gateway.IsValid() {
		t.Errorf("connect answers %+v, want web at eth2 without a gateway", c.onBack)
	}
	if dev := defaultRoute(t, c.web); dev != "eth0" {
		t.Errorf("the default route is at %q, want eth0, that of the first network", dev)
	}
}

// assertBothSeen checks names and packets on both networks, and what is listed.
func (c *connected) assertBothSeen(t *testing.T) {
	resolves(t, c.web, "client", c.onClient.Addr())
	resolves(t, c.web, "db", c.onDB.Addr())
	resolves(t, c.web, "db.back", c.onDB.Addr())
	resolves(t, c.client, "web", c.onFront.Addr())
	resolves(t, c.db, "web", c.onBack.Addr())
	resolves(t, c.db, "store", c.onBack.Addr())
	if _, err := c.client.Getent(agenttest.FQDN("store", "back")); err == nil {
		t.Error("a name of back is answered on front")
	}
	for _, to := range []netip.Addr{c.onClient.Addr(), c.onDB.Addr()} {
		if err := c.web.PingOnce(to); err != nil {
			t.Error(err)
		}
	}
	if ps := c.one.MustCtl("ps"); !strings.Contains(ps, fmt.Sprintf("back=%s,front=%s", c.onBack.Addr(), c.onFront.Addr())) {
		t.Errorf("ps: %s", ps)
	}
	if ids := c.one.MustCtl("endpoint", "ls", "--filter", "label=team=shop", "--format", "{{.Network}}"); ids != "back\nfront\n" {
		t.Errorf("endpoints with the label: %q", ids)
	}
}

// disconnectFront takes web off the network of its default route, which moves; nothing
// on the other is lost, and a restart keeps it so.
func (c *connected) disconnectFront(t *testing.T) {
	pings := c.db.StartPing(c.onBack.Addr())
	pings.AwaitReplies(5)
	c.one.MustCtl("network", "disconnect", "front", "web")
	agenttest.Eventually(t, time.Second, "the default route has moved", func() error {
		if dev := defaultRoute(t, c.web); dev != "eth2" {
			return fmt.Errorf("it is at %q", dev)
		}
		return nil
	})
	if err := c.web.PingOnce(agenttest.InternetAddr); err != nil {
		t.Errorf("out through the other network: %v", err)
	}
	if _, lost := pings.Stop(); len(lost) > 0 {
		t.Errorf("packets on the network that stayed were lost: %v", lost)
	}
	resolves(t, c.web, "db", c.onDB.Addr())
	agenttest.Eventually(t, time.Second, "front forgets web", func() error {
		if got, err := c.client.Getent(agenttest.FQDN("web", "front")); err == nil {
			return fmt.Errorf("still %v", got)
		}
		return nil
	})
	c.one.Kill()
	c.one.Start()
	resolves(t, c.web, "db", c.onDB.Addr())
	if dev := defaultRoute(t, c.web); dev != "eth2" {
		t.Errorf("after a restart the default route is at %q", dev)
	}
}

// disconnectTheRest takes web off all of its networks.
func (c *connected) disconnectTheRest(t *testing.T) {
	c.one.MustCtl("network", "disconnect", "back", "web")
	if dev := defaultRoute(t, c.web); dev != "" {
		t.Errorf("an internal network has got the default route: %q", dev)
	}
	c.one.MustCtl("network", "disconnect", "inner", "web")
	if r := c.one.Ctl("network", "disconnect", "inner", "web"); r.Code != 4 {
		t.Errorf("a container that is on no network: %s", r)
	}
	c.one.MustCtl("network", "disconnect", "-f", "inner", "web")
}

// Prune removes what nobody is on, and nothing else: the endpoints of a dead
// host keep their network.
func TestPruneKeepsTheNetworksOfADeadHost(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one, two := l.Host(1), l.Host(2)
	for _, n := range []string{"empty", "used", "suspended"} {
		one.CreateNetwork(n)
	}
	one.Endpoint("used", "web")
	two.Endpoint("suspended", "db")
	agenttest.Eventually(t, 5*time.Second, "db is known", func() error {
		if r := one.Ctl("endpoint", "inspect", "db"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	l.Cut(two)
	agenttest.Eventually(t, 30*time.Second, "db is suspended", func() error {
		if out := one.MustCtl("endpoint", "ls", "--all", "--filter", "status=suspended", "--format", "{{.Name}}"); out != "db\n" {
			return fmt.Errorf("suspended are %q", out)
		}
		return nil
	})
	if r := one.Ctl("network", "prune"); r.Code != 1 || !strings.Contains(r.Stderr, "not confirmed") {
		t.Errorf("nobody has confirmed: %s", r)
	}
	if out := one.MustCtl("network", "prune", "-f", "--filter", "until=1h"); out != "" {
		t.Errorf("networks made just now were pruned as old ones: %q", out)
	}
	if out := one.MustCtl("network", "prune", "-f"); out != "Deleted Networks:\nempty\n\n" {
		t.Errorf("prune prints %q", out)
	}
	if out := one.MustCtl("network", "ls", "--format", "{{.Name}}"); out != "suspended\nused\n" {
		t.Errorf("left are %q", out)
	}
}
