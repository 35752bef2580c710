package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

// connected is a pair of hosts with the networks blue and red, and the
// container web of a runtime on blue.
func connected(t *testing.T) (one, two *flowHost) {
	t.Helper()
	one, two = pair(t)
	if _, err := one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "red"}); err != nil {
		t.Fatal(err)
	}
	_, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Ifname: "eth0",
		Runtime: "podman", Container: "C0FFEE0001", Labels: map[string]string{"team": "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	return one, two
}

func TestFlowConnectAndDisconnect(t *testing.T) {
	one, two := connected(t)
	a, err := one.Connect(t.Context(), api.ConnectRequest{Network: "red", Container: "c0ffee", Aliases: []string{"www"}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "web" || a.Interface != "eth1" || a.Gateway != "" {
		t.Errorf("got %+v, want web at eth1 without a default route", a)
	}
	e, err := one.Endpoint(t.Context(), a.ID)
	if err != nil || e.Container != "C0FFEE0001" || e.Runtime != "podman" || e.Labels["team"] != "shop" || !slices.Contains(e.Aliases, "www") {
		t.Errorf("the connected endpoint is %+v, %v", e, err)
	}
	again, err := one.Connect(t.Context(), api.ConnectRequest{Network: "red", Container: "web", Aliases: []string{"www"}})
	if err != nil || again.ID != a.ID {
		t.Errorf("connected again: %+v, %v, want the same", again, err)
	}
	_, err = one.Connect(t.Context(), api.ConnectRequest{Network: "red", Container: "web", Aliases: []string{"shop"}})
	if api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "network connect red web: the sandbox is on it already, with --alias www") {
		t.Errorf("connected again with another alias: %v", err)
	}

	for range 2 { // the second is a repetition, which only -f takes
		err = one.Disconnect(t.Context(), api.DisconnectRequest{Network: "red", Container: "web"})
		if err != nil {
			break
		}
	}
	if api.KindOf(err) != api.KindNotFound || !strings.Contains(err.Error(), "network disconnect red web: web is not on that network") {
		t.Errorf("disconnected twice: %v", err)
	}
	if err := one.Disconnect(t.Context(), api.DisconnectRequest{Network: "red", Container: "web", Force: true}); err != nil {
		t.Errorf("disconnected twice by force: %v", err)
	}
	if err := one.Disconnect(t.Context(), api.DisconnectRequest{Network: "blue", Container: "web"}); err != nil {
		t.Errorf("the last network: %v", err)
	}
	two.eventually("web is gone", func() error {
		if all, err := two.Endpoints(t.Context(), api.EndpointFilter{}); err != nil || len(all) > 0 {
			return fmt.Errorf("%v, %v", all, err)
		}
		return nil
	})
}

func TestFlowConnectOfWhatIsNotHere(t *testing.T) {
	one, two := connected(t)
	two.eventually("web and red are known", func() error {
		_, e1 := two.Endpoint(t.Context(), "web")
		_, e2 := two.Network(t.Context(), "red")
		return errors.Join(e1, e2)
	})
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name          string
		host          *flowHost
		network, what string
		kind          api.Kind
		message, hint string
	}{
		{"a container that nobody knows", one, "red", "absent", api.KindNotFound, "no container absent on the networks of this host", "agentctl ps"},
		{"one of another host", two, "red", "web", api.KindConflict, "it is on host host1", "agentctl ps # on host1"},
		{"the runtime's id of one of another host", two, "red", "c0ffee0001", api.KindNotFound, "no container", "agentctl ps"},
		{"two of one name", one, "red", "web", api.KindConflict, "more than one container of this host is web", "agentctl endpoint inspect "},
		{"an unknown network", one, "green", "web", api.KindNotFound, "no network green", "agentctl network ls"},
		{"the empty name", one, "red", "", api.KindNotFound, "no container", "agentctl ps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.host.Connect(t.Context(), api.ConnectRequest{Network: tt.network, Container: tt.what})
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Kind != tt.kind || !strings.Contains(e.Message, tt.message) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %#v, want %s with %q and hint %q", err, tt.kind, tt.message, tt.hint)
			}
		})
	}
}

// Published ports go on through another network of the container.
func TestFlowPortsMoveWithTheirContainer(t *testing.T) {
	one, _ := connected(t)
	port := fmt.Sprint(freePort(t))
	_, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "shop", Ifname: "eth0",
		Runtime: "podman", Container: "C0FFEE0002", Ports: []string{port + ":80"}})
	if err != nil {
		t.Fatal(err)
	}
	on, err := one.Connect(t.Context(), api.ConnectRequest{Network: "red", Container: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Disconnect(t.Context(), api.DisconnectRequest{Network: "blue", Container: "shop"}); err != nil {
		t.Fatal(err)
	}
	e, err := one.Endpoint(t.Context(), on.ID)
	if err != nil || len(e.Ports) != 1 || !strings.Contains(e.Ports[0], port+"->80/tcp") {
		t.Errorf("on red it publishes %q, %v", e.Ports, err)
	}
	if err := one.Disconnect(t.Context(), api.DisconnectRequest{Network: "red", Container: "shop"}); err != nil {
		t.Fatal(err)
	}
	if _, lost := one.agent.member().endpoints.Ports.Problems(); len(lost) > 0 {
		t.Errorf("ports are left: %v", lost)
	}
}

// What would break a host, or hide a runtime's own network, is refused.
func TestFlowTheFabricAndPodmansNetworkAreNotOurs(t *testing.T) {
	one, _ := connected(t)
	one.kernel.AddSandbox(flowMachine{}.FabricPath(), 99)
	_, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "weft", Name: "fab"})
	if api.KindOf(err) != api.KindMisuse || !strings.Contains(err.Error(), "is the fabric") {
		t.Errorf("attach of the fabric: %v", err)
	}
	_, err = one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "podman"})
	if api.KindOf(err) != api.KindMisuse || !strings.Contains(err.Error(), "has a meaning of its own") {
		t.Errorf("network create podman: %v", err)
	}
}

func TestFlowConnectOfAVanishedSandbox(t *testing.T) {
	one, _ := connected(t)
	one.kernel.RemoveSandbox("/run/sandbox/0")
	one.kernel.AddSandbox("/run/sandbox/0", 9) // the same path, another namespace
	_, err := one.Connect(t.Context(), api.ConnectRequest{Network: "red", Container: "web"})
	if api.KindOf(err) != api.KindNotFound {
		t.Errorf("got %v, want not-found: the container is gone", err)
	}
}

func TestFlowPruneKeepsWhatIsUsedOrSpared(t *testing.T) {
	one, two := connected(t) // web is on blue, red is empty
	for name, label := range map[string]string{"old": "", "kept": "keep", "mine": "team"} {
		r := api.NetworkCreateRequest{Name: name}
		if label != "" {
			r.Labels = map[string]string{label: "1"}
		}
		if _, err := one.NetworkCreate(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	prune := func(r api.PruneRequest, want ...string) {
		t.Helper()
		got, err := two.NetworkPrune(t.Context(), r)
		slices.Sort(got.Deleted)
		if err != nil || len(got.Failures) > 0 || !slices.Equal(got.Deleted, want) {
			t.Errorf("prune %+v: %+v, %v, want %v", r, got, err, want)
		}
	}
	two.eventually("every network and web are known", func() error {
		all, err := two.Networks(t.Context())
		if err == nil && len(all) != 5 {
			err = fmt.Errorf("%d networks", len(all))
		}
		_, e := two.Endpoint(t.Context(), "web")
		return errors.Join(err, e)
	})
	prune(api.PruneRequest{Until: "24h"})
	prune(api.PruneRequest{Labels: []string{"team=2"}})
	prune(api.PruneRequest{Labels: []string{"team"}}, "mine")
	one.stop() // web is suspended, and still keeps blue
	two.eventually("web is suspended", func() error {
		e, err := two.Endpoint(t.Context(), "web")
		if err == nil && e.Status != "suspended" {
			err = errors.New(e.Status)
		}
		return err
	})
	prune(api.PruneRequest{NotLabels: []string{"keep"}}, "old", "red")
	prune(api.PruneRequest{}, "kept")
	if _, err := two.Network(t.Context(), "blue"); err != nil {
		t.Errorf("blue: %v", err)
	}
}

// Somebody flushed the addresses in a sandbox: status names the endpoint with the line
// that puts it right, and the request made once more does so.
func TestAttachedAgainAnAlteredEndpointIsPutRight(t *testing.T) {
	one, _ := pair(t)
	r := api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Aliases: []string{"www"}, Ifname: "eth0"}
	first, err := one.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if c := one.check("sandboxes"); c.State != api.CheckOK {
		t.Errorf("as it was made: %+v", c)
	}
	one.kernel.Alter(first.ID, "no address "+first.Address)
	c := one.check("sandboxes")
	want := api.Check{Name: "sandboxes", State: api.CheckWarn, Detail: "web on blue in /run/sandbox/0: no address " + first.Address,
		Hint: "agentctl attach blue --netns /run/sandbox/0 --name web --alias www --ifname eth0", Since: c.Since}
	if c != want || c.Since.IsZero() {
		t.Errorf("got %+v, want %+v", c, want)
	}
	again, err := one.Attach(t.Context(), r)
	if err != nil || again.ID != first.ID || again.Address != first.Address {
		t.Errorf("another endpoint: %+v, %v, was %+v", again, err, first)
	}
	if c := one.check("sandboxes"); c.State != api.CheckOK {
		t.Errorf("attached again: %+v", c)
	}
}

// What will not resolve is said when it is attached: a name that every program takes
// for an address, and a container's name that is too long for DNS.
func TestAttachSaysWhatWillNotResolve(t *testing.T) {
	one, _ := connected(t)
	long := strings.Repeat("x", 66)
	a, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "0x10", Aliases: []string{"web"}})
	if err != nil || len(a.Notices) != 1 || !strings.Contains(a.Notices[0], "ask for 0x10.blue") {
		t.Errorf("a name that is a number: %q, %v", a.Notices, err)
	}
	a, err = one.Attach(t.Context(), api.AttachRequest{Network: "red", Netns: "/run/sandbox/1", Name: "web", Aliases: []string{long}})
	if err == nil {
		t.Errorf("an alias of 66 characters is taken: %+v", a)
	}
	a, err = one.Attach(t.Context(), api.AttachRequest{Network: "red", Netns: "/run/sandbox/1", Name: long[:63], Aliases: []string{long},
		Runtime: "podman", Container: "c1"})
	if err != nil {
		t.Errorf("a container's name of 66 characters: %+v, %v", a, err)
	}
	one.eventually("status names both", func() error {
		st, err := one.Status(t.Context())
		for _, c := range st.Checks {
			if c.Name == "dns" && strings.Contains(c.Detail, long+" on red") && strings.Contains(c.Detail, "0x10 on blue") {
				return nil
			}
		}
		return fmt.Errorf("%+v, %v", st.Checks, err)
	})
}
