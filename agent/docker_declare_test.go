package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/discovery/pool"
)

// The cluster gets a network that Docker made: the other host has it, and what Docker
// calls its pool is freed by that name.
func TestFlowDockerNetworkBecomesTheClusters(t *testing.T) {
	one, two := pair(t)
	d := one.agent.driver()
	asked := docker.Network{Subnets: []docker.Subnet{{CIDR: netip.MustParsePrefix("10.97.0.0/24"), Gateway: netip.MustParseAddr("10.97.0.254")}}}
	sub, err := d.Lay(asked, nil)
	if err != nil || sub.CIDR != asked.Subnets[0].CIDR || sub.Gateway != asked.Subnets[0].Gateway {
		t.Fatalf("laid out as %+v, %v", sub, err)
	}
	if err := d.Declare(dockerID("7"), sub.CIDR); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Cluster(); err != nil || c.Declared[dockerID("7")] != "10.97.0.0/24" || c.Objects[dockerID("7")] != "" {
		t.Fatalf("before: %+v, %v", c, err)
	}
	asked.Name, asked.Labels = "Shop", map[string]string{"team": "a"}
	if err := d.Create(t.Context(), dockerID("7"), asked); err != nil {
		t.Fatal(err)
	}
	c, err := d.Cluster()
	if err != nil || c.Objects[dockerID("7")] == "" {
		t.Fatalf("after: %+v, %v", c, err)
	}
	two.eventually("the other host has it", func() error {
		if n, ok := two.agent.member().networks.Lookup("shop"); !ok || n.Labels["team"] != "a" {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	p, err := d.Lease(t.Context(), c.Objects[dockerID("7")], netip.MustParseAddr("10.97.0.7"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Release(t.Context(), "10.97.0.0/24", p.Addr()); err != nil {
		t.Fatal(err)
	}
	for _, l := range one.agent.member().leases.Leases() {
		if l.Addr.Addr() == p.Addr() {
			t.Errorf("%s is still leased", p.Addr())
		}
	}
}

// Of one network that two hosts declare the second finds the first's; one that is made
// otherwise is another.
func TestFlowDockerNetworkThatBothHostsDeclareIsOne(t *testing.T) {
	one, two := pair(t)
	asked := docker.Network{Name: "shop", Subnets: []docker.Subnet{{CIDR: netip.MustParsePrefix("10.97.0.0/24")}}}
	if err := errors.Join(one.agent.driver().Create(t.Context(), dockerID("7"), asked), two.agent.driver().Create(t.Context(), dockerID("8"), asked)); err != nil {
		t.Fatal(err)
	}
	a, _ := one.agent.driver().Cluster()
	b, _ := two.agent.driver().Cluster()
	if a.Objects[dockerID("7")] != b.Objects[dockerID("8")] || a.Objects[dockerID("7")] == "" {
		t.Errorf("%v and %v", a.Objects, b.Objects)
	}
	asked.Internal = true
	if err := two.agent.driver().Create(t.Context(), dockerID("9"), asked); !errors.Is(err, docker.ErrDiffers) {
		t.Errorf("made otherwise: %v", err)
	}
}

// Subnets that Docker chooses are none that the cluster has, or that are about to be.
func TestFlowDockerAutomaticSubnetIsFree(t *testing.T) {
	one, _ := pair(t)
	var taken []netip.Prefix
	n, _ := one.agent.member().networks.Lookup("blue")
	for range 8 {
		sub, err := one.agent.driver().Lay(docker.Network{Subnets: []docker.Subnet{{}}}, taken)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range append(taken, n.Subnets[0].CIDR) {
			if p.Overlaps(sub.CIDR) {
				t.Errorf("%s overlaps %s", sub.CIDR, p)
			}
		}
		taken = append(taken, sub.CIDR)
	}
	if _, err := one.agent.driver().Lay(docker.Network{Subnets: []docker.Subnet{{CIDR: n.Subnets[0].CIDR}}}, nil); err == nil {
		t.Error("blue's subnet once more is taken")
	}
}

// While the store is away Docker is refused at once, and not its containers later.
func TestFlowDockerNetworkWaitsForTheStore(t *testing.T) {
	f := newFlow(t)
	f.altered = func(p Pool) Pool {
		p.Networks = awayStore{p.Networks}
		return p
	}
	one := f.host(1)
	if _, err := one.Init(t.Context(), api.InitRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := one.agent.driver().Lay(docker.Network{Subnets: []docker.Subnet{{}}}, nil)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Kind != api.KindFailed || !strings.HasPrefix(e.Hint, "agentctl status --wait") {
		t.Errorf("got %+v", err)
	}
}

type awayStore struct{ networks.Store }

func (awayStore) Healthy() error { return pool.ErrUnavailable }
