package linux

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// encoder lays netlink messages (netlink(7)) one after the other into a buffer,
// so that a thousand of them cost one allocation and one system call.
type encoder struct {
	b     []byte
	start int // of the message under construction
}

// begin starts a message with its fixed header, such as struct ifinfomsg.
func (e *encoder) begin(typ, flags uint16, header []byte) {
	e.start = len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = binary.NativeEndian.AppendUint16(e.b, flags|unix.NLM_F_REQUEST)
	e.b = append(e.b, make([]byte, 8)...) // sequence number and port, set when sent
	e.b = append(e.b, header...)
	e.pad()
}

// end closes the message.
func (e *encoder) end() {
	binary.NativeEndian.PutUint32(e.b[e.start:], uint32(len(e.b)-e.start))
}

func (e *encoder) pad() {
	for len(e.b)%unix.NLMSG_ALIGNTO != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) attr(typ uint16, data []byte) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(unix.SizeofRtAttr+len(data)))
	e.b = binary.NativeEndian.AppendUint16(e.b, typ)
	e.b = append(e.b, data...)
	e.pad()
}

func (e *encoder) u8(typ uint16, v uint8) { e.attr(typ, []byte{v}) }

func (e *encoder) flag(typ uint16, v bool) {
	if v {
		e.u8(typ, 1)
	} else {
		e.u8(typ, 0)
	}
}

func (e *encoder) u16(typ uint16, v uint16) {
	e.attr(typ, binary.NativeEndian.AppendUint16(nil, v))
}

func (e *encoder) u32(typ uint16, v uint32) {
	e.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// be16 is for what the kernel keeps in network byte order, such as ports.
func (e *encoder) be16(typ uint16, v uint16) { e.attr(typ, binary.BigEndian.AppendUint16(nil, v)) }

func (e *encoder) str(typ uint16, s string) { e.attr(typ, append([]byte(s), 0)) }

func (e *encoder) addr(typ uint16, a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		e.attr(typ, v[:])
		return
	}
	v := a.As16()
	e.attr(typ, v[:])
}

// nest makes an attribute of those that fill appends.
func (e *encoder) nest(typ uint16, fill func()) {
	at := len(e.b)
	e.attr(typ|unix.NLA_F_NESTED, nil)
	fill()
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

// The fixed headers of rtnetlink(7).

func ifInfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func ifAddr(family, bits, flags, scope uint8, index int) []byte {
	b := []byte{family, bits, flags, scope, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}

func rtMsg(family, bits, table, protocol, scope, typ uint8) []byte {
	return []byte{family, bits, 0, 0, table, protocol, scope, typ, 0, 0, 0, 0}
}

func ndMsg(family uint8, index int, state uint16, flags uint8) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint16(b[8:], state)
	b[10] = flags
	return b
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
