package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/discovery"
)

// dockerID is an endpoint's or a network's id as Docker makes them.
func dockerID(c string) string { return strings.Repeat(c, 64) }

// dockered is a host whose Docker has a network that stands for blue.
func dockered(t *testing.T) (*flowHost, book.Driver, discovery.Network) {
	t.Helper()
	one, _ := pair(t)
	d, n := one.dockered()
	return one, d, n
}

// dockered gives the host a Docker with a network that stands for blue.
func (h *flowHost) dockered() (book.Driver, discovery.Network) {
	h.t.Helper()
	d := h.agent.driver()
	n, ok := h.agent.member().networks.Lookup("blue")
	if !ok {
		h.t.Fatal("no network blue")
	}
	if err := d.Adopt(dockerID("d"), n.ID.String()); err != nil {
		h.t.Fatal(err)
	}
	return d, n
}

// bound is an endpoint with an address, any when want is zero, as Docker gets
// one before its interface. That an address is free again is heard of.
func (h *flowHost) bound(n discovery.Network, id string, want netip.Addr) (a netip.Addr) {
	h.t.Helper()
	d := h.agent.driver()
	h.eventually("an address", func() error {
		p, err := d.Lease(h.t.Context(), n.ID.String(), want)
		a = p.Addr()
		return err
	})
	if _, err := d.Bind(h.t.Context(), docker.Endpoint{ID: id, DockerID: dockerID("d"), Network: n.ID.String(), Addr: a}); err != nil {
		h.t.Fatal(err)
	}
	return a
}

// An engine that hangs may have the container that nobody else knows: it is asked,
// and says itself that it does not answer.
func TestAnEngineThatHangsIsAskedForContainers(t *testing.T) {
	for version, want := range map[string]bool{"20.10.24": true, "": false} {
		if got := (dockerConnector{engine: foundDocker{version: version}}).Found(); got != want {
			t.Errorf("engine %q: %t", version, got)
		}
	}
}

func TestFlowDockerAddressWaitsForItsDyingInterface(t *testing.T) {
	one, d, n := dockered(t)
	first, second := dockerID("1"), dockerID("2")
	a := one.bound(n, first, netip.Addr{})
	if _, err := d.Join(t.Context(), first, "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	one.clings.Store(&gone)
	removed := sync.OnceFunc(func() { close(gone) })
	defer removed()
	if err := errors.Join(d.Leave(t.Context(), first), d.Remove(t.Context(), first), d.Release(t.Context(), n.ID.String(), a)); err != nil {
		t.Fatalf("Docker does not wait for the kernel: %v", err)
	}
	one.bound(n, second, a)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Join(ctx, second, "/run/docker/netns/2"); err == nil || !strings.Contains(err.Error(), "still being removed") {
		t.Errorf("join beside the dying interface: %v", err)
	}
	removed()
	if _, err := d.Join(t.Context(), second, "/run/docker/netns/2"); err != nil {
		t.Error(err)
	}
}

// An interface that the kernel does not remove at the first try keeps its
// address until it is gone.
func TestFlowDockerAddressWaitsForAnInterfaceThatStays(t *testing.T) {
	one, d, n := dockered(t)
	first, second := dockerID("1"), dockerID("2")
	a := one.bound(n, first, netip.Addr{})
	if _, err := d.Join(t.Context(), first, "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	one.refuses.Store(true)
	if err := errors.Join(d.Leave(t.Context(), first), d.Remove(t.Context(), first), d.Release(t.Context(), n.ID.String(), a)); err != nil {
		t.Fatal(err)
	}
	one.eventually("the kernel refuses", func() error {
		if one.refused.Load() == 0 {
			return errors.New("not asked yet")
		}
		return nil
	})
	one.bound(n, second, a)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.Join(ctx, second, "/run/docker/netns/2"); err == nil || !strings.Contains(err.Error(), "still being removed") {
		t.Errorf("join beside the interface that stays: %v", err)
	}
	one.refuses.Store(false)
	if _, err := d.Join(t.Context(), second, "/run/docker/netns/2"); err != nil {
		t.Error(err)
	}
}

// Only endpoints that a container has are announced: not before they join, and
// not when they have left, by the next agent neither.
func TestFlowDockerAnnouncesWhatHasJoined(t *testing.T) {
	one, d, n := dockered(t)
	bound, joined, left := dockerID("1"), dockerID("2"), dockerID("3")
	one.bound(n, bound, netip.Addr{})
	a := one.bound(n, joined, netip.Addr{})
	one.bound(n, left, netip.Addr{})
	for _, id := range []string{joined, left} {
		if _, err := d.Join(t.Context(), id, "/run/docker/netns/"+id[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Leave(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if err := d.Describe(t.Context(), left, docker.Container{ID: dockerID("c"), Name: "late"}); err != nil {
		t.Fatal(err)
	}
	announced := func() (out []netip.Addr) {
		v := one.agent.member().directory.View()
		for _, e := range v.Endpoints {
			if e.Host == v.Self && e.Runtime == discovery.RuntimeDocker {
				out = append(out, e.IPv4)
			}
		}
		return out
	}
	only := func() error {
		if got := announced(); !slices.Equal(got, []netip.Addr{a}) {
			return fmt.Errorf("announced are %v, want %v", got, a)
		}
		return nil
	}
	one.eventually("before", only)
	one.stop()
	one.start()
	if err := only(); err != nil {
		t.Errorf("the next agent: %v", err)
	}
}

// Docker repeats a request whose answer was lost: an address that it named is
// then its own, and one endpoint's in the end.
func TestFlowDockerAsksTwiceForAnAddress(t *testing.T) {
	one, d, n := dockered(t)
	a, err := d.Lease(t.Context(), n.ID.String(), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	one.stop()
	one.start()
	d = one.agent.driver()
	if again, err := d.Lease(t.Context(), n.ID.String(), a.Addr()); err != nil || again != a {
		t.Fatalf("asked again: %v, %v, want %v", again, err, a)
	}
	errs := make(chan error)
	for _, id := range []string{dockerID("1"), dockerID("2")} {
		go func() {
			_, err := d.Bind(t.Context(), docker.Endpoint{ID: id, DockerID: dockerID("d"), Network: n.ID.String(), Addr: a.Addr()})
			errs <- err
		}()
	}
	if x, y := <-errs, <-errs; (x == nil) == (y == nil) {
		t.Errorf("two endpoints of one address: %v, %v; want one to be refused", x, y)
	}
}

// What Docker does not list twice, a second apart, is forgotten; not what it may
// not list yet, nor what it lists again.
func TestFlowDockerForgetsWhatDockerDoesNotHave(t *testing.T) {
	one, d, n := dockered(t)
	gone, back := dockerID("1"), dockerID("2")
	for _, id := range []string{gone, back} {
		one.bound(n, id, netip.Addr{})
		if _, err := d.Join(t.Context(), id, "/run/docker/netns/"+id[:1]); err != nil {
			t.Fatal(err)
		}
	}
	made := time.Now()
	here := func(id string) bool {
		_, ok := one.agent.member().endpoints.Journal.OfDocker(id)
		return ok
	}
	// Docker lists an endpoint within young of its making, and what is missing for
	// missingFor is gone.
	const young, missingFor = 10 * time.Second, time.Second
	none, listed := map[string]bool{}, map[string]bool{back: true}
	for _, step := range []struct {
		after   time.Duration
		list    map[string]bool
		missing bool
		gone    bool
	}{
		{time.Second, none, true, false},
		{young + time.Second, none, true, false},
		{young + time.Second + missingFor/2, listed, true, false},
		{young + 2*time.Second, listed, false, true},
		{young + 2*time.Second + missingFor, none, true, true},
	} {
		_, missing := d.Compare(t.Context(), made.Add(step.after), step.list)
		if missing != step.missing || here(gone) == step.gone || !here(back) {
			t.Errorf("after %v: missing %t, want %t; the first is there %t, the second %t", step.after, missing, step.missing, here(gone), here(back))
		}
	}
	if unknown, _ := d.Compare(t.Context(), time.Now(), map[string]bool{back: true, "x": true}); !slices.Equal(unknown, []string{"x"}) {
		t.Errorf("unknown are %v, want x", unknown)
	}
}

// A frame finds its endpoint by the hardware address alone: a second one is
// refused by whoever has it, on this host and on another.
func TestFlowTwoEndpointsDoNotShareAMAC(t *testing.T) {
	one, two := pair(t)
	d, n := one.dockered()
	const mac = "02:42:0a:40:00:63"
	attach := func(h *flowHost, name, sandbox string) error {
		_, err := h.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: sandbox, Name: name, MAC: mac})
		return err
	}
	if err := attach(one, "web", "/run/sandbox/0"); err != nil {
		t.Fatal(err)
	}
	refused := func(err error) {
		t.Helper()
		if api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), mac) || !strings.Contains(err.Error(), "web on host1") {
			t.Errorf("got %v, want a conflict with web on host1", err)
		}
	}
	refused(attach(one, "db", "/run/sandbox/1"))
	two.eventually("web is known", func() error {
		_, err := two.Endpoint(t.Context(), "web")
		return err
	})
	refused(attach(two, "db", "/run/sandbox/0"))
	a, err := d.Lease(t.Context(), n.ID.String(), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Bind(t.Context(), docker.Endpoint{ID: dockerID("1"), DockerID: dockerID("d"), Network: n.ID.String(), Addr: a.Addr(), MAC: mac})
	refused(err)

	// It is free with the endpoint, for whoever has waited for that.
	waits := make(chan error)
	go func() { waits <- attach(two, "db", "/run/sandbox/0") }()
	time.AfterFunc(100*time.Millisecond, func() { _ = one.Detach(context.Background(), "blue", "web") })
	if err := <-waits; err != nil {
		t.Errorf("after web is gone: %v", err)
	}
}
