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
		Moved: func(came, gone []overlay.NFElement) error { return forget(k.host.ns, came, gone) },
	})
	return err
}

func (k *Kernel) filter(ctx context.Context, objects []overlay.Object, deleting bool) error {
	if deleting {
		return k.nft.Delete(ctx, objects...)
	}
	return k.nft.Put(ctx, objects...)
}

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
