// Package survey looks at what surrounds the agent on its host, for package environment
// to judge. It reads, asks and changes nothing. It has no library of the agent's: the
// command uses it as well.
package survey

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/environment"
	"github.com/weft-net/weft/agent/hostport"
)

// programTime is how long a program may take to say its version.
const programTime = 2 * time.Second

// number reads a file that is one number.
func number(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// setting reads a setting of the network; empty: there is none.
func setting(path string) string {
	b, err := os.ReadFile("/proc/sys/net/" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Conntrack reads how many connections are tracked.
func Conntrack() *environment.Conntrack {
	const dir = "/proc/sys/net/netfilter/"
	count, err := number(dir + "nf_conntrack_count")
	if errors.Is(err, os.ErrNotExist) {
		return &environment.Conntrack{None: true}
	}
	most, errMost := number(dir + "nf_conntrack_max")
	return &environment.Conntrack{Count: count, Most: most, Err: errors.Join(err, errMost)}
}

// Uplink looks at the device that has an address.
func Uplink(addr netip.Addr) *environment.Uplink {
	u := &environment.Uplink{Addr: addr}
	dev, mtu := holder(addr)
	if dev == "" {
		return u
	}
	u.Dev, u.MTU = dev, mtu
	u.Driver, u.Offloads = offloads(dev)
	conf := func(name string) string { return setting("ipv4/conf/" + name) }
	u.Forwarding = conf(dev + "/forwarding")
	u.RPFilter = max(conf("all/rp_filter"), conf(dev+"/rp_filter")) // the kernel takes the larger one
	return u
}

// holder is the device with an address.
func holder(addr netip.Addr) (dev string, mtu int) {
	all, err := net.Interfaces()
	if err != nil {
		return "", 0
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
				return i.Name, i.MTU
			}
		}
	}
	return "", 0
}

// Ways finds by which device packets to each address leave. Nothing is sent.
func Ways(to map[string]netip.Addr, port uint16) (out []environment.Way) {
	for host, addr := range to {
		w := environment.Way{Host: host}
		var c net.Conn
		if c, w.Err = net.Dial("udp", netip.AddrPortFrom(addr, max(port, 1)).String()); w.Err == nil {
			if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
				w.Dev, _ = holder(local.Addr().Unmap())
			}
			_ = c.Close()
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b environment.Way) int { return strings.Compare(a.Host, b.Host) })
	return out
}

// Space asks what the file system of a directory still takes.
func Space(what, dir string, needFree, dangered uint64) environment.Space {
	s := environment.Space{What: what, Dir: dir, NeedFree: needFree, Dangered: dangered}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		s.Err = err
		return s
	}
	s.Free, s.Files = st.Bavail*uint64(st.Bsize), st.Ffree
	if st.Files == 0 { // it counts none: btrfs
		s.Files = 1 << 32
	}
	return s
}

// Legacy reads the tables of the old iptables, which are those that have been used.
func Legacy() (tables []string) {
	for _, file := range []string{"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"} {
		b, _ := os.ReadFile(file)
		for _, name := range strings.Fields(string(b)) {
			if !slices.Contains(tables, name) {
				tables = append(tables, name)
			}
		}
	}
	return tables
}

// Firewall looks for rules of others. own is weft's table.
func Firewall(ctx context.Context, own string) *environment.Firewall {
	f := &environment.Firewall{Legacy: Legacy()}
	out, err := output(ctx, "nft", "list", "tables")
	if err != nil {
		f.Err = err
		return f
	}
	for l := bufio.NewScanner(strings.NewReader(out)); l.Scan(); {
		name, ok := strings.CutPrefix(strings.TrimSpace(l.Text()), "table ")
		if _, short, _ := strings.Cut(name, " "); ok && short != own {
			f.NFT = append(f.NFT, name)
		}
	}
	return f
}

// Programs runs each program to see its version. wanted is what each is for.
func Programs(ctx context.Context, wanted [][2]string) (out []environment.Program) {
	for _, w := range wanted {
		p := environment.Program{Name: w[0], For: w[1]}
		text, err := output(ctx, w[0], "--version")
		p.Version, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
		p.Err = err
		out = append(out, p)
	}
	return out
}

// output runs a program for a moment.
func output(ctx context.Context, name string, args ...string) (string, error) {
	path, err := find(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	c.Env = []string{"LC_ALL=C"}
	c.WaitDelay = time.Second
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Run(); err != nil {
		return "", err
	}
	return out.String(), nil
}

// Run runs a program for a moment and returns what it prints, errors too. It is for
// people to read.
func Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := find(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %.200s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return out, nil
}

// find looks for a program also where a user's PATH has nothing.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no such program")
}

// resolverTime is how long a resolver has for an answer.
const resolverTime = time.Second

// Resolvers asks each for what every resolver can answer, side by side.
func Resolvers(ctx context.Context, all []netip.AddrPort) []environment.Resolver {
	out := make([]environment.Resolver, len(all))
	var wg sync.WaitGroup
	for i, at := range all {
		wg.Go(func() {
			began := time.Now()
			err := askRoot(ctx, at)
			out[i] = environment.Resolver{Addr: at, Took: time.Since(began), Err: err}
		})
	}
	wg.Wait()
	return out
}

// askRoot asks for the servers of the root (RFC 1035, section 4.1).
func askRoot(ctx context.Context, at netip.AddrPort) error {
	d := net.Dialer{Timeout: resolverTime}
	c, err := d.DialContext(ctx, "udp", at.String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(resolverTime))
	id := uint16(time.Now().UnixNano())
	q := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1}
	if _, err := c.Write(q); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("no answer within %v", resolverTime)
		case err != nil:
			return errors.Unwrap(err)
		case n < 12 || buf[0] != q[0] || buf[1] != q[1] || buf[2]&0x80 == 0:
			continue // of nobody we asked
		}
		if rcode := buf[3] & 0xf; rcode == 2 || rcode == 5 {
			return fmt.Errorf("it answers %s", map[byte]string{2: "SERVFAIL", 5: "REFUSED"}[rcode])
		}
		return nil
	}
}

// HostResolvers are the servers that a resolv.conf names.
func HostResolvers(conf string) (out []netip.AddrPort) {
	b, _ := os.ReadFile(conf)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil && len(out) < 3 {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}

// Port looks who has a port. wanted: the agent of process pid has it while all is well.
func Port(what, proto string, number uint16, pid int, wanted bool) environment.Port {
	p := environment.Port{What: what, Proto: proto, Number: number, Wanted: wanted, Holders: hostport.Holders(proto, number)}
	own := fmt.Sprintf("(pid %d)", pid)
	p.Own = slices.ContainsFunc(p.Holders, func(h string) bool { return strings.HasSuffix(h, own) })
	return p
}

// TunnelPort is Port of the tunnel, which the kernel has.
func TunnelPort(number uint16, wanted bool) environment.Port {
	p := Port("for the tunnel", "udp", number, -1, wanted)
	p.Own = slices.Contains(p.Holders, hostport.Kernel) || slices.Contains(p.Holders, hostport.Unseen)
	return p
}

// Needs are the room that a data directory and a run directory should have.
const (
	dataNeeds, dataDangered = 128 << 20, 8 << 20 // history alone may take 64 MiB
	runNeeds, runDangered   = 4 << 20, 256 << 10
)

// Dirs asks what the agent's directories still take.
func Dirs(data, run string) []environment.Space {
	return []environment.Space{Space("the agent's data", data, dataNeeds, dataDangered), Space("the agent's sockets", run, runNeeds, runDangered)}
}
