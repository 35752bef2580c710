package membership

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery/pace"
)

// Addresses are those of this machine.
type Addresses interface {
	// DefaultAddr is the source address of the default route.
	DefaultAddr() (netip.Addr, error)
	// HasAddr reports whether a device of the host has the address.
	HasAddr(a netip.Addr) (bool, error)
}

// Follow looks at the host's address until ctx ends. Once no device has the current
// address and the default route has another one, it calls move with that. An error
// of move ends it.
func Follow(ctx context.Context, on Addresses, current func() netip.Addr, move func(next netip.Addr) error) error {
	for pace.Sleep(ctx, 250*time.Millisecond) {
		next, changed := otherAddr(on, current())
		if !changed {
			continue
		}
		if err := move(next); err != nil {
			return fmt.Errorf("follow the address of the default route: %w", err)
		}
	}
	return nil
}

// otherAddr is the address that the default route has now, when the one in use is
// gone. One that is still there is kept: a second default route, of a VPN say, is
// no reason to move.
func otherAddr(on Addresses, now netip.Addr) (netip.Addr, bool) {
	if has, err := on.HasAddr(now); err != nil || has {
		return now, false
	}
	next, err := on.DefaultAddr()
	return next, err == nil && next != now
}
