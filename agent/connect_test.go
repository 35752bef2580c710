package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
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

// openJournal is an empty one.
func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	db, err := datadir.OpenDB(filepath.Join(t.TempDir(), datadir.LeasesDB))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	j, err := journal.Open(ipam.NewDisk(db))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// engine is a runtime that has to be asked.
type engine struct {
	has   string
	asked []any
}

func (e *engine) Connect(_ context.Context, r api.ConnectRequest) (api.Attachment, error) {
	e.asked = append(e.asked, r)
	return api.Attachment{Name: "asked"}, e.find(r.Container)
}

func (e *engine) Disconnect(_ context.Context, r api.DisconnectRequest) error {
	e.asked = append(e.asked, r)
	return e.find(r.Container)
}

func (e *engine) Found() bool { return e.has != "" }

func (e *engine) find(name string) error {
	if name != e.has {
		return api.Errorf(api.KindNotFound, "No such container: %s", name)
	}
	return nil
}

func TestRuntimeThatHasToBeAsked(t *testing.T) {
	e := &engine{has: "abcd"}
	m := &member{endpoints: endpoint.New(endpoint.Config{Journal: openJournal(t)})}
	for i, l := range []journal.Local{
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{1}, Name: "shop", Runtime: discovery.RuntimeDocker}, Container: "abcd"},
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{2}, Name: "web", Runtime: discovery.RuntimeNetns}, Cookie: 7},
		{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{3}, Name: "host1", Runtime: discovery.RuntimeHost}},
	} {
		l.Created = time.Unix(int64(i), 0)
		if err := m.endpoints.Journal.Put(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := m.container(nil, "shop"); api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "container of docker") {
		t.Errorf("without an engine: %v", err)
	}
	runtimes := map[string]connector{"docker": e}
	for name, wantAsk := range map[string]bool{"shop": true, "abcd": true, "unknown": true, "web": false, "host1": true} {
		l, ask, err := m.container(runtimes, name)
		if err != nil || (ask != nil) != wantAsk {
			t.Errorf("%s: %+v, asked %v, %v; want asked %v", name, l, ask != nil, err, wantAsk)
		}
	}
	runtimes["docker"] = &engine{}
	if _, ask, err := m.container(runtimes, "shop"); err != nil || ask == nil {
		t.Errorf("an engine that is not there says so itself: %v, %v", ask, err)
	}
	if err := unknownToRuntime("x", e.find("x")); api.KindOf(err) != api.KindNotFound || !strings.Contains(err.Error(), "on the networks of this host") {
		t.Errorf("a container that the engine lacks: %v", err)
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
