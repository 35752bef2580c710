package tunnel

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Kinds of frames in the probe network.
const (
	requestKind = 1
	replyKind   = 2
)

// frameSize is a frame without what fills it up: a kind, a number, the sender's id.
const frameSize = 1 + 8 + 16

// number is what a reply repeats of its request. Those of one volley differ in the
// last byte alone.
type number uint64

// firstNumber begins a volley. It is random, since another member must not be able to
// guess which answer is waited for.
func firstNumber() number { return number(rand.Uint64() &^ 0xff) }

func (n number) volley() number { return n &^ 0xff }
func (n number) index() int     { return int(n & 0xff) }

// frame is one in the probe network.
type frame struct {
	kind   byte
	number number
	sender discovery.HostID
}

// encode writes a frame of at least that many bytes.
func (f frame) encode(size int) []byte {
	b := make([]byte, max(size, frameSize))
	b[0] = f.kind
	binary.BigEndian.PutUint64(b[1:], uint64(f.number))
	copy(b[9:], f.sender[:])
	return b
}

// decode reads a frame of another member. What follows it only fills it up.
func decode(b []byte) (f frame, ok bool) {
	if len(b) < frameSize || b[0] != requestKind && b[0] != replyKind {
		return frame{}, false
	}
	return frame{b[0], number(binary.BigEndian.Uint64(b[1:])), discovery.HostID(b[9:frameSize])}, true
}

// decodeFrom is decode for a frame that came from a hardware address: it must be that
// of the member that the frame names.
func decodeFrom(b []byte, from overlay.MAC) (f frame, ok bool) {
	f, ok = decode(b)
	return f, ok && plan.ProbeMAC(f.sender) == from
}

// What encapsulation puts before a frame, in the payload of the tunnel's port: the
// VXLAN header (RFC 7348, section 5) and Ethernet's.
const (
	vxlanSize    = 8
	ethernetSize = 14
)

// decapsulate reads the frame in a datagram on the tunnel's port, as a device sees it.
func decapsulate(b []byte) (f frame, ok bool) {
	if len(b) < vxlanSize+ethernetSize || binary.BigEndian.Uint32(b[4:])>>8 != discovery.ProbeVNI {
		return frame{}, false
	}
	return decodeFrom(b[vxlanSize+ethernetSize:], overlay.MAC(b[vxlanSize+6:]))
}

// questionKind begins the body of a Call that asks a member which requests of a volley
// reached it. It is none of the address messages' versions.
const questionKind = 0x70

// A question is the kind, the first number of the volley and how many there were.
// Releases before standing proofs send it without the last byte, about one number,
// and answer with one byte.
const (
	questionSize = 1 + 8 + 1
	answerSize   = 5
	answerFormat = 1
	mostAsked    = 8 // requests that one question is about
)

// question asks about the first requests of a volley.
func question(volley number, sent int) []byte {
	b := binary.BigEndian.AppendUint64([]byte{questionKind}, uint64(volley))
	return append(b, byte(min(sent, mostAsked)))
}

// asked is the number in a question.
func asked(b []byte) number { return number(binary.BigEndian.Uint64(b[1:])) }

// seen are the requests of a volley, one bit each, the first one the lowest.
type seen uint8

func (s *seen) add(index int) {
	if index < mostAsked {
		*s |= 1 << index
	}
}

// evidence is what one host knows of another's volley.
type evidence struct {
	looked  bool // at its devices
	came    seen // through the tunnel
	arrived seen // at a device, before any packet filter
	left    seen // of the replies, at a device, after every packet filter
}

func (e evidence) answer() []byte {
	b := []byte{answerFormat, 0, byte(e.came), byte(e.arrived), byte(e.left)}
	if e.looked {
		b[1] = 1
	}
	return b
}

// errOlder: the member does not know the question.
var errOlder = errors.New("it runs an older release")

func parseAnswer(b []byte) (evidence, error) {
	if len(b) != answerSize || b[0] != answerFormat || b[1] > 1 {
		return evidence{}, errOlder
	}
	return evidence{b[1] == 1, seen(b[2]), seen(b[3]), seen(b[4])}, nil
}
