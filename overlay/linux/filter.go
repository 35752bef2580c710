package linux

import (
	"context"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// openFilter opens our tables in both namespaces.
func (k *Kernel) openFilter() (err error) {
	k.nft, err = nft.New(nft.Config{
		Host: k.host.ns, Fabric: k.fabric.ns, Guards: guardChains, Log: k.log,
		Moved: k.moved,
	})
	return err
}

// moved ends the connections of ports that came and went. A kernel that cannot is no
// reason to hold anything up: Needs says so.
func (k *Kernel) moved(came, gone []overlay.NFElement) error {
	err := forget(k.host.ns, came, gone)
	if unsupported(err) {
		k.log.Debug("tracked connections stay", "err", err)
		return nil
	}
	return err
}

func (k *Kernel) filter(ctx context.Context, objects []overlay.Object, deleting bool) error {
	if deleting {
		return k.nft.Delete(ctx, objects...)
	}
	return k.nft.Put(ctx, objects...)
}

// Drops returns what the rules of our tables have dropped, by reason.
func (k *Kernel) Drops() ([]overlay.Drop, error) { return k.nft.Drops() }

// watchFilters signals changes of our tables until ctx ends. When it cannot
// listen it says so, signals and tries again.
func (k *Kernel) watchFilters(ctx context.Context, signal func()) {
	for ctx.Err() == nil {
		if err := k.nft.Watch(ctx, signal); err != nil {
			k.log.Warn("kernel notifications lost", "err", err)
			signal()
			pause(ctx, reopenAfter)
		}
	}
}
