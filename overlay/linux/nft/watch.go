package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Watch calls notify after each change of our tables that somebody else has
// made, until ctx ends: nil. Changes that came in one go count once.
func (t *Tables) Watch(ctx context.Context, notify func()) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range t.both() {
		g.Go(func() error { return one.watch(ctx, notify) })
	}
	return g.Wait()
}

func (t *table) watch(ctx context.Context, notify func()) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{
		NetNS: int(t.ns.Fd()), Groups: 1 << (unix.NFNLGRP_NFTABLES - 1),
	})
	if err != nil {
		return fmt.Errorf("watch nftables in the %s namespace: %w", t.place, err)
	}
	defer c.Close()
	_ = c.SetReadBuffer(socketBuffer) // with a small one more changes count as one
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(0, 1)) })()
	for {
		changes, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			notify() // something was lost, and it may have been ours
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("watch nftables in the %s namespace: %w", t.place, err)
		case t.concerned(changes):
			notify()
		}
	}
}

// concerned reports whether a change is one of our table, and not by us.
func (t *table) concerned(changes []netlink.Message) bool {
	for _, m := range changes {
		if m.Header.PID != t.port.Load() && t.named(m) || t.place == overlay.Host && (t.guard(m) || t.meets(m)) {
			return true
		}
	}
	return false
}

// named reports whether a notification is about our table: whatever it tells
// of, the first attribute is the name of its table (linux/netfilter/nf_tables.h).
func (t *table) named(m netlink.Message) bool {
	const generation = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	if m.Header.Type == generation || len(m.Data) < nfHeader || m.Data[0] != byte(t.def.Family) {
		return false
	}
	return attribute(m, unix.NFTA_TABLE_NAME) == t.def.Name
}

// guard reports whether a notification is about a guard, or about a rule in it.
func (t *table) guard(m netlink.Message) bool {
	name := uint16(unix.NFTA_RULE_CHAIN)
	switch m.Header.Type &^ (unix.NFNL_SUBSYS_NFTABLES << 8) {
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		name = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
	default:
		return false
	}
	if len(m.Data) < nfHeader || m.Data[0] != unix.NFPROTO_IPV4 && m.Data[0] != unix.NFPROTO_IPV6 {
		return false
	}
	return slices.Contains(t.guards, attribute(m, name)) && attribute(m, unix.NFTA_TABLE_NAME) == "filter"
}

// meets reports whether a notification is about a chain of another program that
// endpoints' packets meet, or may: a base chain that is new is looked at.
func (t *table) meets(m netlink.Message) bool {
	if len(m.Data) < nfHeader || attribute(m, unix.NFTA_TABLE_NAME) == t.def.Name {
		return false
	}
	switch m.Header.Type &^ (unix.NFNL_SUBSYS_NFTABLES << 8) {
	case unix.NFT_MSG_DELTABLE:
		return true
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return hooked(m) || t.met(m, unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return t.met(m, unix.NFTA_RULE_CHAIN)
	}
	return false
}

// met reports whether a packet met the chain that a notification names.
func (t *table) met(m netlink.Message, name uint16) bool {
	chains := t.foreign.Load()
	return chains != nil && (*chains)[chainKey(nftables.TableFamily(m.Data[0]), attribute(m, unix.NFTA_TABLE_NAME), attribute(m, name))]
}

// hooked reports whether a chain is a base chain in a hook that packets of endpoints pass.
func hooked(m netlink.Message) (is bool) {
	ad, err := netlink.NewAttributeDecoder(m.Data[nfHeader:])
	if err != nil {
		return false
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() != unix.NFTA_CHAIN_HOOK {
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == unix.NFTA_HOOK_HOOKNUM {
					at := ad.Uint32()
					is = is || at == unix.NF_INET_FORWARD || at == unix.NF_INET_LOCAL_IN
				}
			}
			return nil
		})
	}
	return is
}

// attribute is a text in a notification, "" when it has none.
func attribute(m netlink.Message, typ uint16) string {
	ad, err := netlink.NewAttributeDecoder(m.Data[nfHeader:])
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == typ {
			return ad.String()
		}
	}
	return ""
}
