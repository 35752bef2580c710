package agenttest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace below /run/netns.
type Netns string

// Path is the file that keeps the namespace.
func (n Netns) Path() string { return "/run/netns/" + string(n) }

// Enter is the command line that runs args inside the namespace. It is nsenter
// and not `ip netns exec`, which makes a mount namespace as well: a network
// namespace that agentd makes there could not be seen from anywhere else.
func (n Netns) Enter(args ...string) []string {
	return append([]string{"nsenter", "--net=" + n.Path()}, args...)
}

// Run runs a program inside the namespace.
func (n Netns) Run(args ...string) Result { return Run("", n.Enter(args...)...) }

// Must runs a program inside the namespace; the test ends when it fails.
func (n Netns) Must(t testing.TB, args ...string) string {
	t.Helper()
	return must(t, n.Enter(args...)...)
}

// add makes the namespace with its loopback up. A fresh namespace inherits
// settings of the first one, so those that matter are written.
func (n Netns) add(t testing.TB) {
	t.Helper()
	must(t, "ip", "netns", "add", string(n))
	n.batch(t, "link set lo up")
	n.Must(t, "sh", "-c", `
		echo 0 >/proc/sys/net/ipv4/ip_forward
		echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
		echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
		echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts`)
}

// batch gives ip(8) several commands at once.
func (n Netns) batch(t testing.TB, commands ...string) {
	t.Helper()
	mustFeed(t, strings.Join(commands, "\n")+"\n", "ip", "-n", string(n), "-batch", "-")
}

// delete ends every process in the namespace and all that these started, such as
// containers, and removes it with its /etc/netns directory. It does nothing when there is none.
func (n Netns) delete() error {
	if _, err := os.Stat(n.Path()); err != nil {
		return os.RemoveAll("/etc/netns/" + string(n))
	}
	killTrees(strings.Fields(Run("", "ip", "netns", "pids", string(n)).Stdout))
	if r := Run("", "ip", "netns", "delete", string(n)); r.Code != 0 {
		return fmt.Errorf("%s", r)
	}
	return os.RemoveAll("/etc/netns/" + string(n))
}

// do calls f on a thread that is in the namespace. A socket that f opens stays
// in it.
func (n Netns) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := n.enter()
		if err != nil {
			done <- err
			return
		}
		err = f()
		// A thread that cannot go back is not unlocked and so ends with this
		// goroutine: no other may run in the wrong namespace.
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		unix.Close(home)
		done <- err
	}()
	return <-done
}

// enter moves the calling thread into the namespace and returns the one it was
// in.
func (n Netns) enter() (home int, err error) {
	home, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the present namespace: %w", err)
	}
	fd, err := unix.Open(n.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(home)
		return -1, fmt.Errorf("open %s: %w", n.Path(), err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		unix.Close(home)
		return -1, fmt.Errorf("enter %s: %w", n.Path(), err)
	}
	return home, nil
}

// DialUDP opens a socket in the namespace that talks to addr.
func (n Netns) DialUDP(addr netip.AddrPort) (conn *net.UDPConn, err error) {
	err = n.do(func() error {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// ListenUDP opens a socket in the namespace that is bound to addr.
func (n Netns) ListenUDP(addr netip.AddrPort) (conn *net.UDPConn, err error) {
	err = n.do(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// DialTCP connects to addr from inside the namespace.
func (n Netns) DialTCP(addr netip.AddrPort) (conn *net.TCPConn, err error) {
	err = n.do(func() error {
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// ListenTCP listens on addr inside the namespace.
func (n Netns) ListenTCP(addr netip.AddrPort) (l *net.TCPListener, err error) {
	err = n.do(func() error {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		return err
	})
	return l, err
}
