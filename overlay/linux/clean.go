package linux

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// Clean removes everything of ours: what we set on the host, the filters, every
// device with our alias, and the fabric namespace. Devices go before their
// namespace, so that their VNIs are free even if something else holds it. The
// Kernel is of no use afterwards but to Close.
func (k *Kernel) Clean(ctx context.Context) error {
	errs := []error{k.settings.undo()}
	for _, s := range []*space{k.host, k.fabric} {
		if err := s.sweep(); err != nil {
			errs = append(errs, fmt.Errorf("remove links: %w", err))
		}
	}
	errs = append(errs, k.host.dropLocal(), k.host.dropProhibits())
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
	return errors.Join(append(errs, netns.Drop(k.path))...)
}

// dropLocal removes our address on lo.
func (s *space) dropLocal() error {
	all, err := s.addresses()
	if err != nil {
		return err
	}
	for _, a := range all {
		if l, err := s.linkAt(a.LinkIndex); err == nil && isOwnLocal(l.Attrs().Name, a) {
			return s.deleteAddress(overlay.Addr{Dev: l.Attrs().Name, Prefix: toPrefix(a.IPNet)})
		}
	}
	return nil
}

// sweep removes every device of ours from a namespace, as a group.
func (s *space) sweep() error {
	all, err := s.links()
	if err != nil {
		return err
	}
	var errs []error
	found := false
	for _, l := range all {
		if marked(l) {
			found = true
			errs = append(errs, absent(s.do(func(h *netlink.Handle) error { return h.LinkSetGroup(l, overlay.GroupDoomed) }), unix.ENODEV))
		}
	}
	if !found {
		return nil
	}
	s.index.reset(map[string]int{})
	err = s.change(func(r *requests) error { return r.deleteGroup(overlay.GroupDoomed) })
	return errors.Join(append(errs, absent(err, unix.ENODEV))...)
}
