package linux

import (
	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/overlay/linux/netns"
)

// sandboxMTU sets the MTU of the sandbox's end of an endpoint's veth. After a
// restart the agent does not know the sandbox's path any more. It knows the number
// that the fabric has for the sandbox's namespace, and searches the namespaces of
// the machine for that number. Changes of MTU are rare. A sandbox that is not found
// keeps its MTU: the tunnel device tells it about packets that are too big.
func (k *links) sandboxMTU(outer *netlink.LinkAttrs, mtu int) error {
	for path := range netns.All() {
		ns, err := netns.Open(path)
		if err != nil {
			continue // gone meanwhile
		}
		id, err := ask(k.fabric, func(h *netlink.Handle) (int, error) { return h.GetNetNsIdByFd(int(ns.Fd())) })
		ns.Close()
		if err == nil && id == peerNS(outer) {
			return setMTU(path, outer.ParentIndex, mtu)
		}
	}
	k.log.Warn("sandbox keeps its mtu: its namespace is not found", "dev", outer.Name, "mtu", mtu)
	return nil
}

func setMTU(path string, index, mtu int) error {
	s, err := openSpace(path)
	if err != nil {
		return err
	}
	defer s.close()
	err = s.do(func(h *netlink.Handle) error { return h.LinkSetMTU(at(index), mtu) })
	return wrap(err, "set mtu in the sandbox")
}
