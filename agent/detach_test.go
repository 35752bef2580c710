package agent

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
)

// published is a container on blue and red, whose port blue has.
func published(t *testing.T) (one *flowHost, port string) {
	t.Helper()
	one, _ = pair(t)
	if _, err := one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "red"}); err != nil {
		t.Fatal(err)
	}
	port = fmt.Sprint(freePort(t))
	for i, n := range []string{"blue", "red"} {
		if _, err := one.Attach(t.Context(), api.AttachRequest{Network: n, Netns: "/run/sandbox/0", Name: "web", Ifname: fmt.Sprintf("eth%d", i),
			Runtime: "cni", Container: "c0ffee", Ports: []string{port + ":80"}}); err != nil {
			t.Fatal(err)
		}
	}
	return one, port
}

// However a container loses the network that has its ports, another gets them.
func TestFlowPortsMoveWhateverTakesTheirNetwork(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, h *flowHost) error{
		"network rm -f": func(t *testing.T, h *flowHost) error { return h.NetworkRemove(t.Context(), "blue", true) },
		"detach":        func(t *testing.T, h *flowHost) error { return h.Detach(t.Context(), "blue", "web") },
		"DEL": func(t *testing.T, h *flowHost) error {
			return h.DetachContainer(t.Context(), api.ContainerRef{Network: "blue", Container: "c0ffee"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, _ := published(t)
			if err := take(t, one); err != nil {
				t.Fatal(err)
			}
			all := one.agent.member().endpoints.Journal.All()
			if len(all) != 1 || len(all[0].Ports) != 1 || all[0].NoDefault {
				t.Errorf("want red with the port and the default route, got %+v", all)
			}
		})
	}
}

// The second of two that come at once sees what the first left, the ports that it
// passed on among it.
func TestFlowTwoNetworksTakenOffAtOnce(t *testing.T) {
	one, port := published(t)
	s := one.agent.member()
	unlock, err := s.endpoints.Steps().Lock(t.Context(), s.endpoints.Journal.All()[0].Cookie)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, n := range []string{"blue", "red"} {
		wg.Go(func() {
			if err := one.DetachContainer(t.Context(), api.ContainerRef{Network: n, Container: "c0ffee"}); err != nil {
				t.Error(err)
			}
		})
	}
	one.eventually("both wait for the sandbox", func() error {
		// Nothing but a goroutine's stack shows that it waits for a lock.
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if n := bytes.Count(stacks, []byte("(*keyedLocks).lock(")); n < 2 {
			return fmt.Errorf("%d requests wait", n)
		}
		return nil
	})
	unlock()
	wg.Wait()
	if held, lost := s.endpoints.Ports.Problems(); held != 0 || len(lost) > 0 {
		t.Errorf("held %d, lost %v", held, lost)
	}
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "next", Ports: []string{port + ":80"}}); err != nil {
		t.Errorf("the port again: %v", err)
	}
}

// The machine was started again, with Docker on it: an address that was asked for
// is free for whoever had it.
func TestFlowFixedAddressAfterBoot(t *testing.T) {
	one, _ := pair(t)
	one.dockered()
	r := api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}
	a, err := one.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	one.stop()
	one.boot = "two"
	one.kernel.RemoveSandbox("/run/sandbox/0")
	one.kernel.AddSandbox("/run/sandbox/0", 777)
	one.start()
	r.IP = netip.MustParsePrefix(a.Address).Addr().String()
	if _, err := one.Attach(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// What is torn down while the membership is begun under another address is told to
// the new one: nobody repeats it.
func TestFlowTearDownWaitsForTheMove(t *testing.T) {
	one, d, n := dockered(t)
	id := dockerID("1")
	a := one.bound(n, id, netip.Addr{})
	if _, err := d.Join(t.Context(), id, "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context(), id, []string{fmt.Sprintf("%d:80", freePort(t))}); err != nil {
		t.Fatal(err)
	}
	one.agent.move.Lock()
	one.agent.member().stop()
	ended := make(chan error, 1)
	go func() {
		for _, call := range []func() error{
			func() error { return d.Leave(t.Context(), id) },
			func() error { return d.Unpublish(t.Context(), id) },
			func() error { return d.Remove(t.Context(), id) },
			func() error { return d.Release(t.Context(), n.ID.String(), a) },
		} {
			if err := call(); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	if err := one.agent.resumeMember(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	one.agent.move.Unlock()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s := one.agent.member()
	if _, ok := s.endpoints.Journal.OfDocker(id); ok {
		t.Error("the new membership still has the endpoint")
	}
	if held, _ := s.endpoints.Ports.Problems(); held > 0 || len(s.leases.Leases()) > 0 {
		t.Errorf("%d ports held, leases %v", held, s.leases.Leases())
	}
}

// Docker says once whom a container asks for names.
func TestFlowMoveKeepsWhomContainersAsk(t *testing.T) {
	one, d, n := dockered(t)
	id := dockerID("1")
	one.bound(n, id, netip.Addr{})
	if _, err := d.Join(t.Context(), id, "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	own, other := netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("172.17.0.2")
	if err := d.Describe(t.Context(), id, docker.Container{ID: dockerID("c"), Name: "web", Resolvers: []netip.Addr{own}, Others: []netip.Addr{other}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if st := one.agent.member().resolvers.State(); !slices.Contains(st.Resolvers, own) || len(st.OtherAddrs) != 1 {
			t.Errorf("resolvers %v, other addresses %v", st.Resolvers, st.OtherAddrs)
		}
		if err := one.agent.moveTo(t.Context(), netip.MustParseAddr("192.0.2.77")); err != nil {
			t.Fatal(err)
		}
	}
}
