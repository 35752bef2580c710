package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// ndaProtocol is NDA_PROTOCOL (Linux 5.2): who made a neighbour entry.
const ndaProtocol = 12

// batchSize is how many messages share a system call. The errors of a whole
// batch must fit into the socket's buffer.
const batchSize = 500

// entries programs addresses, FDB and neighbour entries in batches and
// returns an error for each object that failed.
func (k *Kernel) entries(objects []overlay.Object, deleting bool) []error {
	var failed []error
	for len(objects) > 0 {
		n := min(len(objects), batchSize)
		failed = append(failed, k.batch(objects[:n], deleting)...)
		objects = objects[n:]
	}
	return failed
}

// batch programs objects of one namespace with one system call. What cannot be
// encoded, for want of its device, is left out.
func (k *Kernel) batch(objects []overlay.Object, deleting bool) []error {
	var failed []error
	fail := func(o overlay.Object, err error) {
		failed = append(failed, &overlay.ObjectError{Object: o, Deleting: deleting, Err: err})
	}
	e := encoder{b: make([]byte, 0, 96*len(objects))}
	sent := make([]overlay.Object, 0, len(objects))
	for _, o := range objects {
		if err := k.encode(&e, o, deleting); err == nil {
			sent = append(sent, o)
		} else if err := gone(err, deleting); err != nil {
			fail(o, err)
		}
	}
	if len(sent) == 0 {
		return failed
	}
	errs, err := k.space(placeOf(sent[0])).do(&e)
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
	return absent(err, unix.ENOENT, unix.ENODEV, unix.ESRCH, unix.EADDRNOTAVAIL)
}

// placeOf is the namespace of an object that entries programs.
func placeOf(o overlay.Object) overlay.Place {
	switch o.(type) {
	case overlay.Addr:
		return overlay.Host
	}
	return overlay.Fabric
}

// encode appends the message that puts or deletes an object.
func (k *Kernel) encode(e *encoder, o overlay.Object, deleting bool) error {
	switch o := o.(type) {
	case overlay.FDB:
		return k.encodeFDB(e, o, deleting)
	case overlay.BridgeFDB:
		return k.encodeBridgeFDB(e, o, deleting)
	case overlay.Neigh:
		return k.encodeNeigh(e, o, deleting)
	case overlay.Addr:
		return k.encodeAddr(e, o, deleting)
	}
	return fmt.Errorf("no such kind of object: %T", o)
}

// neighOp is RTM_NEWNEIGH or RTM_DELNEIGH with its flags. Replace, never
// exclusive: what the kernel has under the key does not matter.
func neighOp(deleting bool) (typ, flags uint16) {
	if deleting {
		return unix.RTM_DELNEIGH, 0
	}
	return unix.RTM_NEWNEIGH, unix.NLM_F_CREATE | unix.NLM_F_REPLACE
}

func (k *Kernel) encodeFDB(e *encoder, f overlay.FDB, deleting bool) error {
	dev, err := k.fabric.number(f.Dev)
	if err != nil {
		return err
	}
	typ, flags := neighOp(deleting)
	if f.MAC.IsZero() && !deleting {
		flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND // one of several destinations
	}
	e.begin(typ, flags, ndMsg(unix.AF_BRIDGE, dev, unix.NUD_PERMANENT, unix.NTF_SELF))
	e.attr(unix.NDA_LLADDR, f.MAC[:])
	e.addr(unix.NDA_DST, f.VTEP)
	e.end()
	return nil
}

func (k *Kernel) encodeBridgeFDB(e *encoder, f overlay.BridgeFDB, deleting bool) error {
	dev, err := k.fabric.number(f.Dev)
	if err != nil {
		return err
	}
	typ, flags := neighOp(deleting)
	// The kernel's "noarp" is bridge(8)'s "static": it does not age and is not
	// the bridge's own address.
	e.begin(typ, flags, ndMsg(unix.AF_BRIDGE, dev, unix.NUD_NOARP, unix.NTF_MASTER))
	e.attr(unix.NDA_LLADDR, f.MAC[:])
	e.end()
	return nil
}

func (k *Kernel) encodeNeigh(e *encoder, n overlay.Neigh, deleting bool) error {
	dev, err := k.fabric.number(n.Dev)
	if err != nil {
		return err
	}
	typ, flags := neighOp(deleting)
	e.begin(typ, flags, ndMsg(family(n.Addr), dev, unix.NUD_PERMANENT, 0))
	e.addr(unix.NDA_DST, n.Addr)
	if !deleting {
		e.attr(unix.NDA_LLADDR, n.MAC[:])
		e.u8(ndaProtocol, overlay.Protocol)
	}
	e.end()
	return nil
}

// neighbour is a parsed struct ndmsg.
type neighbour struct {
	family   uint8
	dev      int
	state    uint16
	flags    uint8
	dst      netip.Addr
	mac      overlay.MAC
	protocol uint8
	master   int
	vlan     uint16
	extra    bool // a port, VNI, device or nexthop of its own: never ours
}

func parseNeighbour(body []byte) (neighbour, bool) {
	if len(body) < unix.SizeofNdMsg {
		return neighbour{}, false
	}
	n := neighbour{
		family: body[0],
		dev:    int(binary.NativeEndian.Uint32(body[4:])),
		state:  binary.NativeEndian.Uint16(body[8:]),
		flags:  body[10],
	}
	for typ, data := range attributes(body[unix.SizeofNdMsg:]) {
		switch typ {
		case unix.NDA_DST:
			n.dst = asAddr(data)
		case unix.NDA_LLADDR:
			copy(n.mac[:], data)
		case ndaProtocol:
			n.protocol = asU8(data)
		case unix.NDA_MASTER:
			n.master = int(asU32(data))
		case unix.NDA_VLAN:
			n.vlan = asU16(data)
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX, ndaNexthop:
			n.extra = true
		}
	}
	return n, true
}

// ndaNexthop is NDA_NH_ID.
const ndaNexthop = 13

// neighbours dumps one family of a namespace, as objects; AF_BRIDGE are the
// FDBs. There may be a hundred thousand, so none is kept twice.
func (s *space) neighbours(family uint8, object func(*neighbour) (overlay.Object, bool)) ([]overlay.Object, error) {
	var e encoder
	e.begin(unix.RTM_GETNEIGH, 0, ndMsg(family, 0, 0, 0))
	e.end()
	return dump(s.conn, &e, func(body []byte) (overlay.Object, bool) {
		n, ok := parseNeighbour(body)
		if !ok {
			return nil, false
		}
		return object(&n)
	})
}

// neigh is a neighbour entry as an object, if it is one that the tunnel device
// answers from.
func (n *neighbour) neigh(dev string) (overlay.Object, bool) {
	if n.state == unix.NUD_NOARP || n.dst.IsMulticast() || n.state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
		return nil, false
	}
	o := overlay.Neigh{Dev: dev, Addr: n.dst, MAC: n.mac}
	if n.state != unix.NUD_PERMANENT || n.protocol != overlay.Protocol {
		o.Other = fmt.Sprintf("nud %#x protocol %d", n.state, n.protocol)
	}
	return o, true
}

// fdb is an FDB entry as an object: a tunnel destination, or an address behind
// a port of a bridge. The ports' own addresses are the kernel's business.
func (n *neighbour) fdb(dev, bridge string, tunnel bool) (overlay.Object, bool) {
	switch {
	case n.flags&unix.NTF_SELF != 0 && tunnel:
		o := overlay.FDB{Dev: dev, MAC: n.mac, VTEP: n.dst}
		if n.state != unix.NUD_PERMANENT || n.extra {
			o.Other = fmt.Sprintf("nud %#x", n.state)
		}
		return o, true
	case n.master != 0 && n.state != unix.NUD_PERMANENT && n.vlan == 0 && n.flags&unix.NTF_SELF == 0:
		o := overlay.BridgeFDB{Bridge: bridge, MAC: n.mac, Dev: dev}
		if n.state != unix.NUD_NOARP {
			o.Other = fmt.Sprintf("nud %#x", n.state)
		}
		return o, true
	}
	return nil, false
}
