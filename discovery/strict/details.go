package strict

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weft-net/weft/discovery"
)

// mostDetails bounds the ports and labels of one endpoint, in bytes on the wire. A
// release that does not know them keeps them as unknown fields, of which it takes
// mostUnknown; and an endpoint with all its fields has to fit into a datagram.
const mostDetails = 640

// Details are what of an endpoint's ports and labels is told to other members: what
// they take, as far as there is room. Ports come first.
func Details(ports []discovery.Port, labels map[string]string) discovery.Details {
	var d discovery.Details
	left, room := 0, mostDetails
	ports = slices.Clone(ports)
	slices.SortFunc(ports, comparePorts)
	for _, p := range ports {
		if size := sizeOfPort(p); size > room || checkPort(p) != nil {
			left++
		} else {
			room -= size
			d.Ports = append(d.Ports, p)
		}
	}
	var words []string
	for k, v := range labels {
		words = append(words, k+"="+v)
	}
	slices.Sort(words)
	for _, l := range words {
		if size := sizeOfLabel(l); size > room || checkLabel(l) != nil {
			left++
		} else {
			room -= size
			d.Labels = append(d.Labels, l)
		}
	}
	d.Told = uint16(1 + min(left, 1<<16-2))
	return d
}

func comparePorts(a, b discovery.Port) int {
	return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), a.HostAddr.Compare(b.HostAddr), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
}

// What each takes on the wire: its tag, its length, and itself.
func sizeOfPort(p discovery.Port) int { return 2 + 5 + len(p.HostAddr.AsSlice()) }
func sizeOfLabel(l string) int        { return 3 + len(l) }

// details says what is wrong with those that a member announces.
func details(d discovery.Details) error {
	size := 0
	for _, p := range d.Ports {
		if err := checkPort(p); err != nil {
			return err
		}
		size += sizeOfPort(p)
	}
	for _, l := range d.Labels {
		if err := checkLabel(l); err != nil {
			return err
		}
		size += sizeOfLabel(l)
	}
	if size > mostDetails {
		return fmt.Errorf("has %d bytes of ports and labels, %d at most", size, mostDetails)
	}
	return nil
}

func checkPort(p discovery.Port) error {
	switch {
	case p.Proto != 6 && p.Proto != 17:
		return fmt.Errorf("publishes a port of protocol %d, which is neither TCP nor UDP", p.Proto)
	case p.HostPort == 0 || p.Port == 0:
		return errors.New("publishes port 0")
	case p.HostAddr.IsValid() && (p.HostAddr.IsMulticast() || p.HostAddr.Is4In6() || p.HostAddr.Zone() != ""):
		return fmt.Errorf("publishes a port at %s", p.HostAddr)
	}
	return nil
}

// checkLabel says why a label cannot be shown to people.
func checkLabel(l string) error {
	if !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("label %.40q has characters that cannot be shown", l)
	}
	if key, _, ok := strings.Cut(l, "="); !ok || key == "" {
		return fmt.Errorf("label %.40q is no KEY=VALUE", l)
	}
	return nil
}
