package dns

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holder names the program that keeps us from an address, as "dnsmasq (pid
// 812)"; it is empty where nobody is found or we may not look.
func holder(key listenKey) string {
	for _, inode := range socketsOn(key) {
		if who := ownerOf(inode); who != "" {
			return who
		}
	}
	return ""
}

// socketsOn returns the inodes of the sockets on the key's address or on the
// wildcard address, IPv6's included, which takes IPv4 as well.
func socketsOn(key listenKey) []string {
	var inodes []string
	for _, file := range []string{key.network()[:3], key.network()[:3] + "6"} {
		// thread-self: the namespace is a property of the thread.
		text, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			continue
		}
		inodes = append(inodes, matchSockets(text, key.addr, key.tcp)...)
	}
	return inodes
}

// matchSockets picks from /proc/net/{udp,tcp}{,6}: the second field is the
// local address, the fourth the state, the tenth the inode.
func matchSockets(text []byte, want netip.AddrPort, tcp bool) []string {
	const listening = "0A"
	var inodes []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || tcp && f[3] != listening {
			continue
		}
		a, err := parseProcAddr(f[1])
		if err == nil && a.Port() == want.Port() && (a.Addr() == want.Addr() || a.Addr().IsUnspecified()) {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}

// parseProcAddr reads "0100007F:0035": words of four bytes in the host's order,
// which is little-endian on what we run on, and the port.
func parseProcAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("socket address %q", s)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !ok {
		return netip.AddrPort{}, fmt.Errorf("socket address %q", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// ownerOf finds the process that has the socket open (proc(5)).
func ownerOf(inode string) string {
	links, err := filepath.Glob("/proc/[0-9]*/fd/[0-9]*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil {
			continue // it ended just now
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), filepath.Base(dir))
	}
	return ""
}
