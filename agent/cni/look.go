package cni

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// look reads an interface in a network namespace from the kernel.
func look(netns, ifname string) (s state, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with this goroutine, so that no other
		// runs in the container's namespace.
		runtime.LockOSThread()
		if err = enter(netns); err == nil {
			s, err = lookHere(ifname)
		}
	}()
	<-done
	return s, err
}

func enter(netns string) error {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", netns, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", netns, err)
	}
	return nil
}

func lookHere(ifname string) (state, error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return state{}, err
	}
	s := state{mac: i.HardwareAddr.String(), up: i.Flags&net.FlagUp != 0}
	addrs, err := i.Addrs()
	if err != nil {
		return state{}, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			s.addrs = append(s.addrs, p)
		}
	}
	routes, err := os.ReadFile("/proc/thread-self/net/route")
	s.gateway = defaultGateway(string(routes), ifname)
	return s, err
}

// defaultGateway reads the IPv4 default route of an interface out of
// /proc/net/route (proc(5)): interface, destination and gateway are its first
// columns, the addresses in the byte order of the machine.
func defaultGateway(routes, ifname string) netip.Addr {
	for line := range strings.Lines(routes) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != ifname || f[1] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 4 {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
		return netip.AddrFrom4(a)
	}
	return netip.Addr{}
}
