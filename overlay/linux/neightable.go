package linux

import (
	"encoding/binary"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// NeighbourTables returns the kernel's neighbour tables. There is one of each family
// for all network namespaces, so they are the same in each.
func NeighbourTables() ([]overlay.NeighbourTable, error) {
	s, err := here()
	if err != nil {
		return nil, err
	}
	defer s.close()
	return dump(s, func(*netlink.Handle) (all []overlay.NeighbourTable, err error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, 0)
		req.AddData(ndtmsg{})
		err = s.raw.each(req, unix.RTM_NEWNEIGHTBL, func(body []byte) {
			if t, ok := neighbourTable(body); ok {
				all = append(all, t)
			}
		})
		return all, err
	})
}

// ndtmsg is the header of a request for the tables of all families (struct ndtmsg).
type ndtmsg struct{}

// Len implements nl.NetlinkRequestData.
func (ndtmsg) Len() int { return 4 }

// Serialize implements nl.NetlinkRequestData.
func (ndtmsg) Serialize() []byte { return make([]byte, 4) }

// neighbourTable reads a table of IPv4 or IPv6 (linux/neighbour.h). The settings of
// one device come in messages of the same type, without limits.
func neighbourTable(body []byte) (t overlay.NeighbourTable, ok bool) {
	const (
		header     = 4 // struct ndtmsg
		name       = 1 // NDTA_…
		thresh3    = 4
		config     = 5
		stats      = 7
		entries    = 4  // in struct ndt_config
		tableFulls = 80 // in struct ndt_stats: the eleventh of 64 bits
	)
	for typ, data := range attributes(body, header) {
		switch typ {
		case name:
			t.Name = strings.TrimRight(string(data), "\x00")
		case thresh3:
			t.Limit, ok = int(asU32(data)), true
		case config:
			if len(data) >= entries+4 {
				t.Entries = int(asU32(data[entries:]))
			}
		case stats:
			if len(data) >= tableFulls+8 {
				t.Overflows = binary.NativeEndian.Uint64(data[tableFulls:])
			}
		}
	}
	t.IPv6 = t.Name == "ndisc_cache"
	return t, ok && (t.IPv6 || t.Name == "arp_cache")
}
