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

// moveTo begins the membership anew under another address.
func (a *Agent) moveTo(ctx context.Context, next netip.Addr) error {
	return a.reopen(ctx, func(again bool) {
		if addr, err := a.parts.Host.DefaultAddr(); again && err == nil {
			next = addr
		}
		a.setAdvertise(next)
		a.log.Info("the host has another address", "addr", next)
	})
}

// followDisk begins the membership anew once files can be written that could only be
// read before. What was refused meanwhile is in no file, so nothing is lost.
func (a *Agent) followDisk(ctx context.Context) error {
	for pace.Sleep(ctx, time.Second) {
		m := a.member()
		if m == nil || !m.disks.thawed() {
			continue
		}
		done, err := a.exclusively("follow the disk")
		if err != nil {
			continue // a leave under way ends first
		}
		a.log.Info("the data directory takes writes again", "dir", a.dir.Path())
		err = a.reopen(ctx, func(bool) {})
		done()
		if err != nil {
			return fmt.Errorf("begin anew with a data directory that takes writes again: %w", err)
		}
	}
	return nil
}

// reopen begins the membership anew, as a restart does, with the kernel left as it is.
// Requests that come meanwhile wait. It calls before at each try.
func (a *Agent) reopen(ctx context.Context, before func(again bool)) error {
	a.move.Lock()
	defer a.move.Unlock()
	old := a.member()
	if old != nil {
		old.stop()
	}
	for try := 1; ; try++ {
		before(try > 1)
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
		a.log.Warn("not a member again yet", "addr", a.config().Advertise, "err", err)
		if !pace.Sleep(ctx, time.Second) {
			return nil
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
