package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errElsewhere: the engine's containers are not on this host's network.
var errElsewhere = errors.New("the engine runs in another network namespace")

// find reports whether an engine of this host listens on a socket. The socket
// may be seen from other network namespaces, where other agents run: the engine
// is ours when the process that made the socket shares our namespace. With
// socket activation that is the service manager. The error says why an engine
// that is there is not ours; without one there is no error.
func find(socket string) (bool, error) {
	c, err := net.Dial("unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	pid, err := peer(c.(*net.UnixConn))
	if err != nil {
		return false, fmt.Errorf("who serves %s: %w", socket, err)
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false, fmt.Errorf("%s: %w: %w", socket, errElsewhere, err)
	}
	// Not /proc/self: the process's first thread may just be in another.
	ours, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, err
	}
	if !os.SameFile(theirs, ours) {
		return false, fmt.Errorf("%s: %w", socket, errElsewhere)
	}
	return true, nil
}

// peer is the process that began to listen (SO_PEERCRED, unix(7)).
func peer(c *net.UnixConn) (pid int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return cred.Pid, nil
}
