package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Drops returns what the rules of our tables have dropped, by reason. A table that is
// made anew begins at zero.
func (t *Tables) Drops() ([]overlay.Drop, error) {
	sums := map[string]overlay.Drop{}
	for _, one := range t.both() {
		if err := one.drops(sums); err != nil {
			return nil, fmt.Errorf("read the counters in the %s namespace: %w", one.place, err)
		}
	}
	var all []overlay.Drop
	for _, reason := range overlay.DropReasons() {
		d := sums[reason]
		d.Reason = reason
		all = append(all, d)
	}
	return all, nil
}

// drops adds those of one table.
func (t *table) drops(sums map[string]overlay.Drop) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil {
		return nil
	}
	t.setReadDeadline()
	rules, err := dumpRules(t.sock, t.def)
	if err != nil {
		return errIfFound(err, t.redial())
	}
	for chain, lines := range t.made.lines {
		if len(lines) != len(rules[chain]) {
			continue // somebody changes the chain: the next pass mends it
		}
		for i, line := range lines {
			reason := overlay.DropReason(t.place, chain, line)
			if reason == "" {
				continue
			}
			d := sums[reason]
			d.Packets += rules[chain][i].packets
			d.Bytes += rules[chain][i].bytes
			sums[reason] = d
		}
	}
	return nil
}

// errIfFound is nil for a table that is not there.
func errIfFound(err, again error) error {
	if again == nil && errors.Is(err, unix.ENOENT) {
		return nil
	}
	return cmp.Or(err, again)
}

// counted reads what a counter expression has counted.
func (r *rule) counted(data []byte) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_COUNTER_PACKETS:
			r.packets = ad.Uint64()
		case unix.NFTA_COUNTER_BYTES:
			r.bytes = ad.Uint64()
		}
	}
}
