// Package inside looks at a network namespace from within, as a program there sees it,
// and makes a try from there. It changes nothing.
package inside

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// Look returns what the namespace at path looks like for a packet that begins there,
// or with arrives one that ends there; an empty path is the host's, where our own table
// is left out of what drops.
func Look(path string, c overlay.Crossing, arrives bool) (in overlay.Inside, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return in, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	h, err := netns.Handle(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return in, err
	}
	defer h.Close()
	if in.Links, err = links(h); err != nil {
		return in, err
	}
	other := c.Dst
	if arrives {
		other = c.Src
	}
	var dev nft.Device
	in.Way, dev = way(h, other)
	if in.Drops, err = drops(ns, path, dev, c, arrives); err != nil {
		return in, err
	}
	if arrives {
		err = netns.Within(ns, func() error {
			in.Ears, err = ears(c.Proto)
			return err
		})
	}
	return in, err
}

func links(h *netlink.Handle) (all []overlay.InsideLink, err error) {
	found, err := netns.Repeat(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := netns.Repeat(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, l := range found {
		a := l.Attrs()
		one := overlay.InsideLink{Name: a.Name, MTU: a.MTU, MAC: macOf(a.HardwareAddr), Up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0}
		for _, addr := range addrs {
			if ip, ok := netip.AddrFromSlice(addr.IP); ok && addr.LinkIndex == a.Index {
				bits, _ := addr.Mask.Size()
				one.Addrs = append(one.Addrs, netip.PrefixFrom(ip.Unmap(), bits))
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// way asks the kernel of the namespace where it sends packets to an address, and by
// which device.
func way(h *netlink.Handle, to netip.Addr) (w overlay.InsideWay, dev nft.Device) {
	routes, err := h.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return overlay.InsideWay{Err: cmp.Or(errText(err), "no route")}, dev
	}
	if via, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		w.Via = via.Unmap()
	}
	if src, ok := netip.AddrFromSlice(routes[0].Src); ok {
		w.Src = src.Unmap()
	}
	if l, err := h.LinkByIndex(routes[0].LinkIndex); err == nil {
		a := l.Attrs()
		w.Dev, w.Hop = a.Name, hop(h, a.Index, cmp.Or(w.Via, to))
		dev = nft.Device{Name: a.Name, Index: uint32(a.Index), Group: a.Group}
	}
	return w, dev
}

// hop is the hardware address that the namespace has of a neighbour.
func hop(h *netlink.Handle, dev int, of netip.Addr) overlay.MAC {
	family := netlink.FAMILY_V4
	if of.Is6() {
		family = netlink.FAMILY_V6
	}
	// The library sends the padding of ndmsg as it finds it in memory, which a kernel that
	// checks strictly refuses now and then.
	_ = h.SetStrictCheck(false)
	known, err := netns.Repeat(func() ([]netlink.Neigh, error) { return h.NeighList(0, family) })
	if err != nil {
		return overlay.MAC{} // it is a detail: the rest is worth telling
	}
	for _, n := range known {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.LinkIndex == dev && a.Unmap() == of && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
			return macOf(n.HardwareAddr)
		}
	}
	return overlay.MAC{}
}

func macOf(b net.HardwareAddr) (m overlay.MAC) {
	copy(m[:], b)
	return m
}

func errText(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EINVAL): // ip-route(8)'s blackhole is the only one that says so
		return "a blackhole route"
	}
	return err.Error()
}

// drops are the chains that drop the packet or its answer. Here the packet leaves by
// output and its answer comes by prerouting and input; at its end it is the other way
// round. Both are taken to use the device that the namespace sends by.
func drops(ns *os.File, path string, dev nft.Device, c overlay.Crossing, arrives bool) (all []overlay.InsideDrop, err error) {
	except := ""
	if path == "" {
		except = "weft"
	}
	leaving, coming := c, c.Reversed()
	if arrives {
		leaving, coming = coming, leaving
	}
	for _, at := range []struct {
		hook   nft.Hook
		packet overlay.Crossing
		answer bool
	}{{nft.Output, leaving, arrives}, {nft.Prerouting, coming, !arrives}, {nft.Input, coming, !arrives}} {
		found, err := nft.Dropping(ns, at.hook, dev, at.packet, at.answer, except)
		if err != nil {
			return nil, fmt.Errorf("read the packet filter: %w", err)
		}
		for _, f := range found {
			all = append(all, overlay.InsideDrop{ForeignFilter: f, Hook: string(at.hook), Answer: at.answer})
		}
	}
	return all, nil
}

// States of sockets that wait for what comes (linux/tcp_states.h): a listening one of
// TCP, an unconnected one of UDP.
var waiting = map[string]string{"tcp": "0A", "udp": "07"}

// ears reads proc(5)'s net/tcp and the like, of the calling thread's namespace.
func ears(proto string) (all []overlay.Ear, err error) {
	state, ok := waiting[proto]
	if !ok {
		return nil, nil
	}
	for _, name := range []string{proto, proto + "6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if errors.Is(err, fs.ErrNotExist) { // no IPv6
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseEars(f, state)...)
		_ = f.Close()
	}
	slices.SortFunc(all, func(a, b overlay.Ear) int { return cmp.Or(cmp.Compare(a.Port, b.Port), a.Addr.Compare(b.Addr)) })
	return slices.Compact(all), nil
}

func parseEars(r io.Reader, state string) (all []overlay.Ear) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		host, port, ok := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		if a, valid := procAddr(host); ok && err == nil && valid {
			all = append(all, overlay.Ear{Addr: a, Port: uint16(n)})
		}
	}
	return all
}

// procAddr reads an address as /proc/net shows it: words of 32 bits, each in the
// machine's order.
func procAddr(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for word := range slices.Chunk(b, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}
