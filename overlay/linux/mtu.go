package linux

import (
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sandboxMTU sets the MTU of the sandbox's end of an endpoint's veth. After a
// restart nobody knows the sandbox's path any more, only the number by which
// the fabric knows its namespace, so the namespaces of the machine are searched
// for that number. Changes of MTU are rare. A sandbox that is not found keeps
// its MTU: the tunnel device tells it about packets that are too big.
func (k *Kernel) sandboxMTU(outer link, mtu int) error {
	for path := range namespaces() {
		ns, err := openNetns(path)
		if err != nil {
			continue // gone meanwhile
		}
		if id, err := k.fabric.nsid(ns); err != nil || id != outer.peerNS {
			ns.Close()
			continue
		}
		ns.Close()
		return setMTU(path, outer.peer, mtu)
	}
	k.log.Warn("sandbox keeps its mtu: its namespace is not found", "dev", outer.name, "mtu", mtu)
	return nil
}

func setMTU(path string, index, mtu int) error {
	s, err := openSpace(path)
	if err != nil {
		return err
	}
	defer s.close()
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(index, 0, 0))
	e.u32(unix.IFLA_MTU, uint32(mtu))
	e.end()
	return wrap(s.one(&e), "set mtu in the sandbox")
}

// nsid is the number by which this namespace knows another; -1: not at all.
func (s *space) nsid(ns *os.File) (int, error) {
	var e encoder
	e.begin(unix.RTM_GETNSID, 0, []byte{unix.AF_UNSPEC})
	e.u32(unix.NETNSA_FD, uint32(ns.Fd()))
	e.end()
	id := -1
	err := s.get(&e, func(body []byte) {
		for typ, data := range attributes(body[min(4, len(body)):]) {
			if typ == unix.NETNSA_NSID {
				id = int(int32(asU32(data)))
			}
		}
	})
	return id, err
}

// namespaces are the files of the network namespaces that have a name or a
// process, each namespace of a process once.
func namespaces() iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, pattern := range []string{"/run/netns/*", "/run/docker/netns/*", "/proc/[0-9]*/ns/net"} {
			paths, _ := filepath.Glob(pattern) // the patterns are well formed
			for _, path := range paths {
				if id, err := os.Readlink(path); err == nil {
					if seen[id] {
						continue
					}
					seen[id] = true
				}
				if !yield(path) {
					return
				}
			}
		}
	}
}
