package strict

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weft-net/weft/discovery"
)

// ErrInvalid is wrapped by every error that says what is wrong with a value.
var ErrInvalid = errors.New("invalid")

// invalidError is an ErrInvalid that says what is wrong with which thing.
type invalidError string

func (e invalidError) Error() string { return string(e) }
func (e invalidError) Unwrap() error { return ErrInvalid }

// Invalidf makes an ErrInvalid with the text alone.
func Invalidf(format string, args ...any) error { return invalidError(fmt.Sprintf(format, args...)) }

// The MTU of a network, in bytes of the inner packet: RFC 1122 wants 576 of every
// host, and an outer IPv6 header, UDP, VXLAN and Ethernet take 70 of the largest
// packet.
const (
	MinMTU = 576
	MaxMTU = 65535 - 70
)

// mostAnswers is more addresses than fit into one datagram.
const mostAnswers = 100

// Bounds of what a person may attach to a network, so that one network does not
// fill the store or the memory of every host.
const (
	mostLabels   = 128
	mostAux      = 256
	longestKey   = 256  // bytes
	longestValue = 4096 // bytes
)

// Network says what is wrong with a network, wherever it comes from: a request, the
// pool or a file. It is nil when every host can carry it. What depends on other
// networks or on the underlay is said by Networks.
func Network(n discovery.Network) error {
	for _, check := range []func(discovery.Network) error{identity, subnets, settings, notes} {
		if err := check(n); err != nil {
			return err
		}
	}
	return nil
}

func identity(n discovery.Network) error {
	switch {
	case n.ID.IsZero():
		return Invalidf("the network has no id")
	case n.VNI == 0 || n.VNI > maxVNI:
		return Invalidf("vni %d is not within 1 and %d", n.VNI, maxVNI)
	case n.VNI == discovery.ProbeVNI:
		return Invalidf("vni %d is that of the members' probes", n.VNI)
	case n.State != discovery.NetworkUp && n.State != discovery.NetworkDeleting:
		return Invalidf("state %q is neither up nor deleting", clip(string(n.State)))
	}
	return NetworkName(n.Name)
}

// reservedNames would hide something that Docker or our names give a meaning.
var reservedNames = []string{"host", "none", "bridge", "default", "podman", "_all"}

// NetworkName says what is wrong with the name of a network. It is a DNS label in
// lower case that begins with a letter or a digit, as Docker wants it: it becomes
// part of names, of file names and of lines of files.
func NetworkName(name string) error {
	switch {
	case slices.Contains(reservedNames, name):
		return Invalidf("%q has a meaning of its own", name)
	case !Label(name) || name[0] == '_':
		return Invalidf("%s is no name for a network: letters, digits, - and _, a letter or digit first, at most 63", quote(name))
	case name != strings.ToLower(name):
		return Invalidf("network name %q is not in lower case", name)
	}
	return nil
}

// Label reports whether s can stand between the dots of a name: letters, digits,
// - and _, neither first nor last a hyphen, at most 63 (RFC 1035, section 2.3.1,
// with the underscore that container names use).
func Label(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// Domain says what is wrong with a domain without dots around it. It ends names,
// and becomes part of the search line of resolv.conf.
func Domain(name string) error {
	if len(name) > 253 {
		return Invalidf("domain of %d bytes, 253 are the most", len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if !Label(label) {
			return Invalidf("%s is no DNS label in %s", quote(label), quote(name))
		}
	}
	return nil
}

// settings checks how the network works.
func settings(n discovery.Network) error {
	if n.Driver != "weft" {
		return Invalidf("driver %s: this release has only weft", quote(n.Driver))
	}
	if n.MTU != 0 && (n.MTU < MinMTU || n.MTU > MaxMTU) {
		return Invalidf("mtu %d is not within %d and %d", n.MTU, MinMTU, MaxMTU)
	}
	return NetworkOptions(n.Options)
}

// option is one driver option of a network.
type option struct {
	want string // in words
	ok   func(value string) bool
}

// options are those that this release has.
var options = map[string]option{
	"mtu": {fmt.Sprintf("give the inner MTU in bytes, %d to %d", MinMTU, MaxMTU), func(v string) bool {
		mtu, err := strconv.Atoi(v)
		return err == nil && mtu >= MinMTU && mtu <= MaxMTU
	}},
	"dns_answers": {fmt.Sprintf("give 1 to %d, or all", mostAnswers), func(v string) bool {
		n, err := strconv.Atoi(v)
		return v == "all" || err == nil && n >= 1 && n <= mostAnswers
	}},
	"host_access": {"give none, local or full", func(v string) bool { return slices.Contains([]string{"none", "local", "full"}, v) }},
}

// NetworkOptions says what is wrong with the driver options of a network. One that
// this release does not have is refused: what it promises would not be kept.
func NetworkOptions(all map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(all)) {
		o, known := options[k]
		switch {
		case !known:
			return Invalidf("-o %s: unknown option; this release has %s", clip(k), strings.Join(slices.Sorted(maps.Keys(options)), ", "))
		case !o.ok(all[k]):
			return Invalidf("-o %s=%s: %s", k, clip(all[k]), o.want)
		}
	}
	return nil
}

// notes checks what people attach to a network.
func notes(n discovery.Network) error {
	if len(n.Labels) > mostLabels {
		return Invalidf("%d labels, %d are the most", len(n.Labels), mostLabels)
	}
	for k, v := range n.Labels {
		switch {
		case k == "" || len(k) > longestKey || !plain(k):
			return Invalidf("label %s: a key has 1 to %d bytes of text in one line", quote(k), longestKey)
		case len(v) > longestValue || !utf8.ValidString(v):
			return Invalidf("label %s: a value has at most %d bytes of text", k, longestValue)
		}
	}
	return Text("created by", n.By)
}

// Text says what is wrong with a short text that people read, such as who did
// something. what names it.
func Text(what, s string) error {
	if len(s) > longestKey || !plain(s) {
		return Invalidf("%s %s: that is no text of one line and at most %d bytes", what, quote(s), longestKey)
	}
	return nil
}

// HostAddr says what is wrong with an address of a member. what names it.
func HostAddr(what string, a netip.Addr) error {
	if !a.IsValid() {
		return Invalidf("%s is missing", what)
	}
	if err := unicast(a); err != nil {
		return Invalidf("%s: %v", what, err)
	}
	return nil
}

// plain reports whether s is text in one line: nothing in it moves a cursor or
// begins a new line of a file.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// quote shows a value that may be anything.
func quote(s string) string { return strconv.Quote(shorten(s)) }

// clip is quote without the quotes.
func clip(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}

func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
