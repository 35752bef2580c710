package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	// DefaultSocket is where the agent of a host serves its API.
	DefaultSocket = "/run/weft/agentd.sock"

	// Group is the group whose members may command the agent.
	Group = "weft"

	publicSocket = "public.sock"
)

// PublicSocket is where the agent that serves socket lets every user of the host
// read.
func PublicSocket(socket string) string { return filepath.Join(filepath.Dir(socket), publicSocket) }

// maxSocketPath is the longest path in bytes that a unix socket can have:
// sun_path without its NUL (unix(7)).
const maxSocketPath = 107

// ListenUnix listens on the unix socket at path, which belongs to the group
// weft if there is one and has the mode 0660. It makes the directory, and takes
// the place of a socket that a dead agent left behind. That another agent
// serves the socket can be checked with errors.Is(err, syscall.EADDRINUSE).
func ListenUnix(path string) (net.Listener, error) { return listen(path, share) }

// ListenPublic is ListenUnix for a socket that every user of the host can open.
func ListenPublic(path string) (net.Listener, error) {
	return listen(path, func(path string) error { return os.Chmod(path, 0o666) })
}

// listen gives the socket to whom give says.
func listen(path string, give func(path string) error) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, a unix socket's may have %d", path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Of two agents that start at the same instant the second must find the
	// first one's socket alive, not remove it between its bind and its listen.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := give(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// lockDir holds the directory itself (flock(2)), so that no lock file is left.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// removeStale removes the socket at path unless somebody answers there.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("a file that is no socket is in the way: %w", fs.ErrExist)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("another agent serves it: %w", syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("is another agent alive? %w", err)
	}
}

// share gives the socket to the group. An agent that is not root can give
// nothing away; then the socket stays its own user's.
func share(path string) error {
	if err := os.Chmod(path, 0o660); err != nil {
		return err
	}
	g, err := user.LookupGroup(Group)
	if err != nil {
		return nil // no such group on this host: root only
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s has the id %q: %w", Group, g.Gid, err)
	}
	if err := os.Chown(path, -1, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
