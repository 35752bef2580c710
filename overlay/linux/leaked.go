package linux

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// makeLeaked makes a tunnel device whose VNI is still taken by one in a fabric
// that lost its name but not its last user. The VNI is the host namespace's, so
// nothing in the new fabric can free it. A gateway port of the old one still
// knows that namespace by number, and by that number the device is removed.
func (k *Kernel) makeLeaked(e *encoder, want overlay.Link, taken error) error {
	all, err := k.host.links()
	if err != nil {
		return errors.Join(taken, err)
	}
	for i := range all {
		if !isGateway(&all[i]) || all[i].peerNS < 0 {
			continue
		}
		if k.host.deleteIn(all[i].peerNS, want.Name) == nil {
			k.log.Info("device of a lost fabric removed", "dev", want.Name)
			return k.host.one(e)
		}
	}
	return taken
}

// deleteIn removes a device from the namespace that this one knows by a number
// (ip-netns(8), set).
func (s *space) deleteIn(nsid int, name string) error {
	var e encoder
	e.begin(unix.RTM_DELLINK, 0, ifInfo(0, 0, 0))
	e.u32(unix.IFLA_TARGET_NETNSID, uint32(nsid))
	e.str(unix.IFLA_IFNAME, name)
	e.end()
	return s.one(&e)
}
