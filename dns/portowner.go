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

// portOwners knows which programs own ports at one moment. It reads the
// kernel's tables when it is first asked and once, for a program on the
// wildcard address keeps all networks from theirs. The zero value is ready.
type portOwners struct {
	tables map[string][]byte // of /proc/net
	owners map[string]string // programs by socket inode
}

// name returns the program that keeps us from an address, as "dnsmasq (pid
// 812)"; it is empty where nobody is found or we may not look.
func (p *portOwners) name(key listenKey) string {
	if p.owners == nil {
		p.owners, p.tables = socketOwners(), make(map[string][]byte)
	}
	// IPv6's wildcard socket takes IPv4 as well.
	for _, file := range []string{key.network()[:3], key.network()[:3] + "6"} {
		for _, inode := range matchSockets(p.table(file), key.addr, key.tcp) {
			if who := p.owners[inode]; who != "" {
				return who
			}
		}
	}
	return ""
}

// table returns nothing for a table that cannot be read: then nobody is found.
func (p *portOwners) table(file string) []byte {
	text, ok := p.tables[file]
	if !ok {
		// thread-self: the namespace is a property of the thread.
		text, _ = os.ReadFile("/proc/thread-self/net/" + file)
		p.tables[file] = text
	}
	return text
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

// socketOwners finds the process of every open socket (proc(5)), by inode.
func socketOwners() map[string]string {
	owners := make(map[string]string)
	links, err := filepath.Glob("/proc/[0-9]*/fd/[0-9]*")
	if err != nil {
		return owners
	}
	for _, link := range links {
		to, err := os.Readlink(link)
		inode, isSocket := strings.CutPrefix(to, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		if comm, err := os.ReadFile(dir + "/comm"); err == nil { // else it ended just now
			owners[strings.TrimSuffix(inode, "]")] = fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), filepath.Base(dir))
		}
	}
	return owners
}
