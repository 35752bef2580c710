package linux

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Clean removes everything of ours: what we set on the host, the filters, every
// device with our alias, and the fabric namespace. Devices go before their
// namespace, so that their VNIs are free even if something else holds it. The
// Kernel is of no use afterwards but to Close.
func (k *Kernel) Clean(ctx context.Context) error {
	errs := []error{k.undoSysctls()}
	for _, s := range []*space{k.host, k.fabric} {
		if err := s.sweep(); err != nil {
			errs = append(errs, fmt.Errorf("remove links: %w", err))
		}
	}
	if err := k.dropLocal(); err != nil {
		errs = append(errs, err)
	}
	var l listing
	errs = append(errs, k.listAccepts(&l))
	for _, o := range l.objects {
		errs = append(errs, k.deleteAccept(o.(overlay.Accept)))
	}
	if filters, err := k.nft.List(ctx); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, k.nft.Delete(ctx, filters...))
	}
	return errors.Join(append(errs, dropFabric(k.path))...)
}

// dropLocal removes our address on lo.
func (k *Kernel) dropLocal() error {
	all, err := k.host.addresses()
	if err != nil {
		return err
	}
	for i := range all {
		l, err := k.host.linkAt(all[i].dev)
		if err == nil && isOwnLocal(&l, all[i].prefix) {
			return errors.Join(k.entries([]overlay.Object{overlay.Addr{Dev: l.name, Prefix: all[i].prefix}}, true)...)
		}
	}
	return nil
}

// sweep removes every device of ours from a namespace. One by one each would
// wait for packets in flight; as a group they wait together.
func (s *space) sweep() error {
	all, err := s.links()
	if err != nil {
		return err
	}
	var e encoder
	for i := range all {
		if overlay.OursByAlias(all[i].alias) && all[i].name != "lo" {
			e.begin(unix.RTM_NEWLINK, 0, ifInfo(all[i].index, 0, 0))
			e.u32(unix.IFLA_GROUP, overlay.GroupDoomed)
			e.end()
		}
	}
	if len(e.b) == 0 {
		return nil
	}
	if _, err := s.do(&e); err != nil {
		return err
	}
	s.index.reset(nil)
	e = encoder{}
	e.begin(unix.RTM_DELLINK, 0, ifInfo(0, 0, 0))
	e.u32(unix.IFLA_GROUP, overlay.GroupDoomed)
	e.end()
	return absent(s.one(&e), unix.ENODEV)
}
