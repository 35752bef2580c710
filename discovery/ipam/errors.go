package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/discovery"
)

// ErrStoreAway is wrapped when an address could only have come from the pool
// and the pool did not answer within 5 s.
var ErrStoreAway = discovery.ErrStoreAway

// ErrFull is what every *FullError is, for errors.Is.
var ErrFull = discovery.ErrFull

// ErrOutside is wrapped when the network has no subnet that holds the wanted
// address, or none of the wanted family.
var ErrOutside = errors.New("not in the network's subnets")

// ErrReserved is wrapped when the wanted address belongs to the network
// itself: its network, broadcast, gateway or an auxiliary address.
var ErrReserved = errors.New("kept by the network")

// ErrOther is wrapped when an owner that has an address asks for another one
// of the same family.
var ErrOther = errors.New("the endpoint has another address")

// ErrDeleting is wrapped when the network is being deleted.
var ErrDeleting = errors.New("network is being deleted")

// TakenError says who holds the wanted address.
type TakenError struct {
	Addr     netip.Addr
	Host     discovery.HostID     // zero when not known
	HostName string               // "" when no member of that id is known
	Endpoint discovery.EndpointID // zero when none is announced there
	Name     string               // of the endpoint
}

func (e *TakenError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "address %s is taken", e.Addr)
	switch {
	case e.Name != "":
		fmt.Fprintf(&b, " by %s", e.Name)
	case !e.Endpoint.IsZero():
		fmt.Fprintf(&b, " by endpoint %s", e.Endpoint)
	}
	switch {
	case e.HostName != "":
		fmt.Fprintf(&b, " on %s", e.HostName)
	case !e.Host.IsZero():
		fmt.Fprintf(&b, " on host %s", e.Host)
	}
	return b.String()
}

// AwayError says that the wanted address lies in a block of a host that does
// not answer, and that may have given it out.
type AwayError struct {
	Addr     netip.Addr
	Host     discovery.HostID
	HostName string     // "" when no member of that id is known
	Free     netip.Addr // an address outside that host's blocks that looks free; zero: none found
	Err      error      // why it was not reached
}

func (e *AwayError) Error() string {
	msg := fmt.Sprintf("address %s lies in a block of %s, which does not answer", e.Addr, hostText(e.Host, e.HostName))
	if e.Free.IsValid() {
		msg += fmt.Sprintf(" (%s is free)", e.Free)
	}
	return msg + ": " + e.Err.Error()
}

// Unwrap returns why the host was not reached.
func (e *AwayError) Unwrap() error { return e.Err }

// Holder is how much of a network one host holds, in addresses of one family.
type Holder struct {
	Name   string // "" when no member of that id is known
	Held   int    // addresses of its blocks
	Unused int    // of those, without an endpoint
}

// FullError says that every block of the network is held and nobody had an
// address to lend, and who holds how much.
type FullError struct {
	Network string
	Holders map[discovery.HostID]Holder
}

func (e *FullError) Error() string {
	parts := make([]string, 0, len(e.Holders))
	for id, h := range e.Holders {
		parts = append(parts, fmt.Sprintf("%s holds %d, %d unused", hostText(id, h.Name), h.Held, h.Unused))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return fmt.Sprintf("network %s is full", e.Network)
	}
	return fmt.Sprintf("network %s is full: %s", e.Network, strings.Join(parts, "; "))
}

// Is reports whether target is ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

func hostText(id discovery.HostID, name string) string {
	if name != "" {
		return name
	}
	return "host " + id.String()
}
