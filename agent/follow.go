package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery/pace"
)

// follow keeps up with the host's address when the configuration names none: the
// membership is begun anew under the next one, as by a restart, with the kernel left
// as it is. It returns when ctx ends, or when the membership cannot be begun again.
func (a *Agent) follow(ctx context.Context) error {
	current := func() netip.Addr { return a.config().Advertise }
	return membership.Follow(ctx, a.parts.Host, current, func(next netip.Addr) error {
		// An init, join or leave under way ends first, and then we look again.
		done, err := a.exclusively("follow the address")
		if err != nil {
			return nil
		}
		defer done()
		return a.moveTo(ctx, next)
	})
}

// moveTries bounds how often a membership is begun again: the address may change
// once more meanwhile.
const moveTries = 5

// moveTo begins the membership anew under another address. Requests that come
// meanwhile wait.
func (a *Agent) moveTo(ctx context.Context, next netip.Addr) error {
	a.move.Lock()
	defer a.move.Unlock()
	old := a.member()
	if old != nil {
		old.stop()
	}
	for try := 1; ; try++ {
		a.setAdvertise(next)
		a.log.Info("the host has another address", "addr", next)
		if old == nil {
			return nil
		}
		err := a.resumeMember()
		if err == nil {
			a.member().resolvers.Remember(old.resolvers)
		}
		if err == nil || try == moveTries {
			return err
		}
		a.log.Warn("not a member under the new address yet", "addr", next, "err", err)
		if !pace.Sleep(ctx, time.Second) {
			return nil
		}
		if addr, err := a.parts.Host.DefaultAddr(); err == nil {
			next = addr
		}
	}
}

// config is the configuration with the address that is in use.
func (a *Agent) config() config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

func (a *Agent) setAdvertise(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg.Advertise = addr
}

// addressGone says in words that no device has this host's address.
func (m *member) addressGone() string {
	if _, _, err := m.overlay.Underlay(m.cfg.Advertise); errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("no device of this host has its address %s", m.cfg.Advertise)
	}
	return ""
}
