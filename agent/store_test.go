package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// raw makes one request to the store, past every agent.
func (f *flow) raw(method, key, value string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, "http://weft/v1/kv/weft/v1/"+key, strings.NewReader(value))
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := f.store.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// check is one line of status.
func (h *flowHost) check(name string) api.Check {
	h.t.Helper()
	st, err := h.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range st.Checks {
		if c.Name == name {
			return c
		}
	}
	h.t.Fatalf("no check %s in %+v", name, st.Checks)
	return api.Check{}
}

// whole is the network as the pool has it.
func (h *flowHost) whole(name string) discovery.Network {
	h.t.Helper()
	n, ok := h.agent.member().networks.Lookup(name)
	if !ok {
		h.t.Fatalf("no network %s", name)
	}
	return n
}

// Whoever can write into the store can make every host say so, and nothing else:
// what an agent would not have written is refused by its key.
func TestFlowNetworksThatNoAgentMade(t *testing.T) {
	one, two := pair(t)
	blue := one.whole("blue")
	put := func(key string, change func(*discovery.Network)) {
		n := blue
		n.ID, n.VNI, n.Name = discovery.NetworkID{byte(len(key)), key[0]}, 5000+uint32(len(key)), key
		p := netip.MustParsePrefix(fmt.Sprintf("10.99.%d.0/24", len(key)))
		n.Subnets = []discovery.Subnet{{CIDR: p, Gateway: p.Addr().Next(), Bits: 3}}
		change(&n)
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		one.raw(http.MethodPut, "nets/"+key, string(b))
	}
	put("path", func(n *discovery.Network) { n.Name = "../../tmp/x" })
	put("under", func(n *discovery.Network) {
		n.Subnets[0].CIDR, n.Subnets[0].Gateway = netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("192.0.2.9")
	})
	put("vnivni", func(n *discovery.Network) { n.VNI = blue.VNI })
	put("backdated", func(n *discovery.Network) { n.VNI, n.Created = blue.VNI, n.Created.AddDate(-1, 0, 0) })
	put("mtu", func(n *discovery.Network) { n.MTU = -5 })
	put("blue", func(n *discovery.Network) { n.ID, n.VNI = blue.ID, blue.VNI })
	keys := []string{"path", "under", "vnivni", "backdated", "mtu", "blue"}
	for _, h := range []*flowHost{one, two} {
		h.eventually("each key is named", func() error {
			all, _ := h.agent.refused.All()
			text := fmt.Sprint(all)
			for _, key := range keys {
				if !strings.Contains(text, "key weft/v1/nets/"+key) {
					return errors.New(text)
				}
			}
			return nil
		})
		all, err := h.Networks(t.Context())
		if err != nil || len(all) != 1 || h.whole("blue").CIDRs() != blue.CIDRs() {
			t.Errorf("%s: %+v (%v), want blue as it was", h.name, all, err)
		}
		if c := h.check("refused"); c.State != api.CheckWarn {
			t.Errorf("%s: %+v", h.name, c)
		}
	}
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "web"}); err != nil {
		t.Error(err)
	}
	for _, key := range keys {
		one.raw(http.MethodDelete, "nets/"+key, "")
	}
	one.eventually("nothing is refused any more", func() error {
		if c := one.check("refused"); c.State != api.CheckOK {
			return errors.New(c.Detail)
		}
		return nil
	})
}

// A network whose key somebody deleted comes back, and nothing of it is given away
// meanwhile.
func TestFlowANetworkWhoseKeyWasDeleted(t *testing.T) {
	one, two := pair(t)
	blue := one.whole("blue")
	one.raw(http.MethodDelete, "nets/blue", "")
	if _, err := two.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "red", Subnets: []string{blue.CIDRs()}}); api.KindOf(err) != api.KindConflict {
		t.Errorf("the subnet that hosts carry: got %v, want a conflict", err)
	}
	red, err := two.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "red"})
	if err != nil || red.Network.VNI == blue.VNI || red.Network.IPAM.Config[0].Subnet == blue.CIDRs() {
		t.Errorf("got %+v (%v), want neither VNI nor subnet of blue", red, err)
	}
	two.within(30*time.Second, "it is written back", func() error {
		all, err := two.agent.member().pool.Networks.Networks(t.Context())
		if err == nil && len(all) != 2 {
			err = fmt.Errorf("%d networks", len(all))
		}
		return err
	})
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "web"}); err != nil {
		t.Error(err)
	}
	two.eventually("nothing is missing", func() error {
		if c := two.check("store"); c.State != api.CheckOK {
			return errors.New(c.Detail)
		}
		return nil
	})
}

// Where a host asks Consul says the last who was told: init, join, the file, a join
// of a member; and the token keeps the address of the cluster.
func TestFlowWhereConsulIsAsked(t *testing.T) {
	f := newFlow(t)
	one, two := f.host(1), f.host(2)
	asks := func(want string) {
		t.Helper()
		if got := two.asks.Load(); got != want {
			t.Errorf("asks at %v, want %s", got, want)
		}
	}
	made, err := one.Init(t.Context(), api.InitRequest{Consul: "http://192.0.2.10:8500/, http://192.0.2.11:8500"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	join := api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: readToken(t, made.TokenFile)}
	if _, err := two.Join(t.Context(), join, nil); err != nil {
		t.Fatal(err)
	}
	asks("http://192.0.2.10:8500,http://192.0.2.11:8500")
	again, err := two.Join(t.Context(), join, nil)
	if err != nil || !again.Already || again.Store != "" {
		t.Errorf("a second join: %+v (%v)", again, err)
	}
	join.Consul = "http://127.0.0.1:8500/"
	again, err = two.Join(t.Context(), join, nil)
	if err != nil || !again.Already || again.Store != " in Consul at http://127.0.0.1:8500" {
		t.Errorf("with --consul: %+v (%v)", again, err)
	}
	asks("http://127.0.0.1:8500")
	two.stop()
	two.start()
	asks("http://127.0.0.1:8500")
	cfg := two.agent.config()
	cfg.Store.Consul = "http://192.0.2.12:8500"
	if err := two.agent.Reload(cfg); err != nil {
		t.Error(err)
	}
	asks("http://192.0.2.12:8500")
	if c := two.check("store"); c.Detail != "in Consul at http://192.0.2.12:8500" {
		t.Errorf("status: %+v", c)
	}
	if tok := two.agent.member().host.Cluster().Consul; tok != "http://192.0.2.10:8500,http://192.0.2.11:8500" {
		t.Errorf("the token says %s", tok)
	}
	join.Consul = "http://127.0.0.1:8500/ui"
	_, err = two.Join(t.Context(), join, nil)
	wantKind(t, err, api.KindMisuse, "Consul's API is at http://127.0.0.1:8500")
}

// An init whose store never answered leaves nothing behind; one that may have written
// is named by status, and given up by leave.
func TestFlowAnInitThatFailed(t *testing.T) {
	f := newFlow(t)
	one := f.host(1)
	f.altered = func(p Pool) Pool {
		p.Records = noMeta{p.Records}
		return p
	}
	_, err := one.Init(t.Context(), api.InitRequest{Consul: "http://wrong:8500"}, nil)
	wantKind(t, err, api.KindFailed, "init: ")
	if c := one.check("membership"); strings.Contains(c.Detail, "init") {
		t.Errorf("nothing was written: %+v", c)
	}
	f.altered = func(p Pool) Pool {
		p.Founding = alteredFounding{p.Founding, func(context.Context, pool.Meta, pool.Host) error { return pool.ErrUnavailable }}
		return p
	}
	_, err = one.Init(t.Context(), api.InitRequest{Consul: "http://wrong:8500"}, nil)
	wantKind(t, err, api.KindFailed, "init: ")
	if c := one.check("membership"); !strings.Contains(c.Detail, "http://wrong:8500") || !strings.Contains(c.Hint, "agentctl leave") {
		t.Errorf("a pending init: %+v", c)
	}
	f.altered = func(p Pool) Pool {
		p.Records = noMeta{p.Records}
		return p
	}
	if err := one.Leave(t.Context(), api.LeaveRequest{}, nil); err != nil {
		t.Errorf("leave: %v", err)
	}
	if c := one.check("membership"); strings.Contains(c.Detail, "init") {
		t.Errorf("after leave: %+v", c)
	}
	f.altered = nil
	if _, err := one.Init(t.Context(), api.InitRequest{Consul: "http://right:8500"}, nil); err != nil {
		t.Error(err)
	}
}

// noMeta are records of a store that does not answer.
type noMeta struct{ membership.Records }

func (noMeta) Meta(context.Context) (pool.Meta, error) { return pool.Meta{}, pool.ErrUnavailable }
