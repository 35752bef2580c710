package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/docker"
)

// An address that a container has by --ip is nobody else's as long as the container
// exists, whether it runs or not, and whether or not the engine has been heard yet.
func TestFlowDockerAddressOfAStoppedContainerIsKept(t *testing.T) {
	one, two := pair(t)
	d, n := one.dockered()
	m, a, e := one.agent.member(), netip.MustParseAddr("10.64.0.77"), dockerID("1")
	one.bound(n, e, a)
	stop := func() {
		t.Helper()
		if err := errors.Join(d.Leave(t.Context(), e), d.Remove(t.Context(), e), d.Release(t.Context(), n.ID.String(), a)); err != nil {
			t.Fatal(err)
		}
	}
	d.Keep(t.Context(), []docker.Given{{Network: n.ID.String(), Addr: a}})
	if _, err := d.Join(t.Context(), e, "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	stop()
	m.book.FreeUnclaimed(t.Context(), time.Now())
	m.book.FreeUnclaimed(t.Context(), time.Now().Add(time.Hour))
	other := two.agent.driver()
	if p, err := other.Lease(t.Context(), n.ID.String(), a); err == nil {
		t.Errorf("the other host leases %s", p)
	}
	e = dockerID("2")
	if got := one.bound(n, e, a); got != a {
		t.Errorf("started again with %s", got)
	}
	stop()
	d.Keep(t.Context(), nil) // it was removed
	two.eventually("the other host may have it", func() error {
		if p, err := other.Lease(t.Context(), n.ID.String(), a); err != nil || p.Addr() != a {
			return fmt.Errorf("%s, %w", p, err)
		}
		return nil
	})
}
