package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// batchSize is how many messages share a system call. The errors of a whole
// batch must fit into the socket's buffer.
const batchSize = 500

// entries programs the FDB and neighbour entries of the fabric.
type entries struct {
	fabric *space
}

// apply programs entries in batches and returns an error for each object that
// failed.
func (k entries) apply(objects []overlay.Object, deleting bool) []error {
	var failed []error
	for len(objects) > 0 {
		n := min(len(objects), batchSize)
		failed = append(failed, k.batch(objects[:n], deleting)...)
		objects = objects[n:]
	}
	return failed
}

// batch programs objects with one system call. What cannot be encoded, for want
// of its device, is left out.
func (k entries) batch(objects []overlay.Object, deleting bool) []error {
	var failed []error
	fail := func(o overlay.Object, err error) {
		failed = append(failed, &overlay.ObjectError{Object: o, Deleting: deleting, Err: err})
	}
	b := newBatch(len(objects))
	sent := make([]overlay.Object, 0, len(objects))
	for _, o := range objects {
		if err := k.encode(b, o, deleting); err == nil {
			sent = append(sent, o)
		} else if err := gone(err, deleting); err != nil {
			fail(o, err)
		}
	}
	if len(sent) == 0 {
		return failed
	}
	var errs []error
	err := k.fabric.change(func(r *requests) (err error) {
		errs, err = r.send(b)
		return err
	})
	for i, o := range sent {
		switch {
		case err != nil:
			fail(o, err)
		case errs != nil && gone(errs[i], deleting) != nil:
			fail(o, errs[i])
		}
	}
	return failed
}

// gone forgives a deletion that found nothing.
func gone(err error, deleting bool) error {
	if !deleting {
		return err
	}
	return absent(err, unix.ENOENT, unix.ENODEV, unix.ESRCH)
}

// encode adds the message that puts or deletes an object.
func (k entries) encode(b *batch, o overlay.Object, deleting bool) error {
	// Replace, never exclusive: what the kernel has under the key does not matter.
	typ, flags := uint16(unix.RTM_NEWNEIGH), uint16(unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	if deleting {
		typ, flags = unix.RTM_DELNEIGH, 0
	}
	var n neighbour
	var dev string
	switch o := o.(type) {
	case overlay.FDB:
		dev, n = o.Dev, neighbour{family: unix.AF_BRIDGE, state: unix.NUD_PERMANENT, flags: unix.NTF_SELF, mac: o.MAC, dst: o.VTEP}
		if o.MAC.IsZero() && !deleting {
			flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND // one of several destinations
		}
	case overlay.BridgeFDB:
		// The kernel's "noarp" is bridge(8)'s "static": it does not age and is not
		// the bridge's own address.
		dev, n = o.Dev, neighbour{family: unix.AF_BRIDGE, state: unix.NUD_NOARP, flags: unix.NTF_MASTER, mac: o.MAC}
	case overlay.Neigh:
		dev, n = o.Dev, neighbour{family: family(o.Addr), state: unix.NUD_PERMANENT, mac: o.MAC, dst: o.Addr, protocol: overlay.Protocol}
	default:
		return fmt.Errorf("no such kind of object: %T", o)
	}
	var err error
	if n.dev, err = k.fabric.number(dev); err != nil {
		return err
	}
	b.entry(typ, flags, &n)
	return nil
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// neighbour is an FDB or neighbour entry as the kernel has it (struct ndmsg).
type neighbour struct {
	family   uint8
	dev      int
	state    uint16
	flags    uint8
	dst      netip.Addr
	mac      overlay.MAC
	protocol uint8
	master   int
	vlan     bool
	extra    bool // a port, VNI, device or nexthop of its own: never ours
}

func parseNeighbour(body []byte) (neighbour, bool) {
	if len(body) < unix.SizeofNdMsg {
		return neighbour{}, false
	}
	n := neighbour{family: body[0], dev: int(asU32(body[4:])), state: binary.NativeEndian.Uint16(body[8:]), flags: body[10]}
	for typ, data := range attributes(body, unix.SizeofNdMsg) {
		switch typ {
		case netlink.NDA_DST:
			n.dst, _ = netip.AddrFromSlice(data)
		case netlink.NDA_LLADDR:
			copy(n.mac[:], data)
		case netlink.NDA_PROTOCOL:
			n.protocol = asU8(data)
		case netlink.NDA_MASTER:
			n.master = int(asU32(data))
		case netlink.NDA_VLAN:
			n.vlan = true
		case netlink.NDA_PORT, netlink.NDA_VNI, netlink.NDA_IFINDEX, netlink.NDA_NH_ID:
			n.extra = true
		}
	}
	return n, true
}

// neigh is a neighbour entry as an object, if it is one that the tunnel device
// answers from.
func (n *neighbour) neigh(dev string) (overlay.Object, bool) {
	if n.state == unix.NUD_NOARP || n.dst.IsMulticast() || n.state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
		return nil, false
	}
	o := overlay.Neigh{Dev: dev, Addr: n.dst, MAC: n.mac}
	if router := n.flags&unix.NTF_ROUTER != 0; n.state != unix.NUD_PERMANENT || n.protocol != overlay.Protocol || router {
		o.Other = fmt.Sprintf("nud %#x protocol %d router %t", n.state, n.protocol, router)
	}
	return o, true
}

// fdb is an FDB entry as an object: a tunnel destination, or an address behind
// a port of a bridge. The ports' own addresses are the kernel's business.
func (n *neighbour) fdb(dev, bridge string, tunnel bool) (overlay.Object, bool) {
	switch {
	case n.flags&unix.NTF_SELF != 0 && tunnel:
		o := overlay.FDB{Dev: dev, MAC: n.mac, VTEP: n.dst}
		if n.state != unix.NUD_PERMANENT || n.extra || n.flags&unix.NTF_ROUTER != 0 {
			o.Other = fmt.Sprintf("nud %#x flags %#x", n.state, n.flags)
		}
		return o, true
	case n.master != 0 && n.state != unix.NUD_PERMANENT && !n.vlan && n.flags&unix.NTF_SELF == 0:
		o := overlay.BridgeFDB{Bridge: bridge, MAC: n.mac, Dev: dev}
		if n.state != unix.NUD_NOARP {
			o.Other = fmt.Sprintf("nud %#x", n.state)
		}
		return o, true
	}
	return nil, false
}
