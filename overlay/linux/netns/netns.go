// Package netns opens, makes and enters network namespaces, and opens netlink
// handles in them. It does not know what is in a namespace.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic is the type of the file system behind namespace files (ioctl_ns(2)).
const nsfsMagic = 0x6e736673

// own is the namespace of the calling thread.
const own = "/proc/thread-self/ns/net"

// Open opens a namespace file; an empty path is the caller's own namespace. Anything
// else is a *NotNetnsError, and is looked at without being opened: a FIFO would wait
// for its other end, and a device may do anything.
func Open(path string) (*os.File, error) {
	if path == "" {
		path = own
	}
	at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(at)
	if what := kindOf(at); what != "" {
		return nil, &NotNetnsError{path, what}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err == nil && typ != unix.CLONE_NEWNET {
		return nil, errors.Join(&NotNetnsError{path, "a namespace of another kind"}, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// NotNetnsError says what is at a path where a network namespace should be. Since
// there is none it is os.ErrNotExist, and also unix.EINVAL, as setns(2) would say.
type NotNetnsError struct{ Path, What string }

// Error says what is there instead.
func (e *NotNetnsError) Error() string {
	return fmt.Sprintf("%s is %s, no network namespace", e.Path, e.What)
}

// Is makes the error the two that it means.
func (e *NotNetnsError) Is(target error) bool {
	return target == fs.ErrNotExist || target == unix.EINVAL
}

// kindOf says what a descriptor is of; empty: a namespace.
func kindOf(fd int) string {
	var fsys unix.Statfs_t
	//nolint:unconvert // the field is 32 bits wide on some machines
	if err := unix.Fstatfs(fd, &fsys); err == nil && int64(fsys.Type) == nsfsMagic {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "nothing that can be looked at"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "a file"
}

// Within runs fn on a thread in the namespace, for what a thread alone can do
// there: open a socket, use /proc/sys/net. The thread is one of its own; should
// it not find back it is never given to another goroutine but ends.
func Within(ns *os.File, fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		return fn()
	})
}

// Unnamed makes a namespace without a name, calls fn on a thread in it, and returns
// it unless fn fails. Whoever closes the file gives the namespace up.
func Unnamed(fn func() error) (ns *os.File, err error) {
	err = onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if ns, err = os.Open(own); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return errors.Join(err, ns.Close())
		}
		return nil
	})
	return ns, err
}

// onThread runs fn, which may change the thread's namespace, on a thread of its
// own, and brings the thread back. The way back matters although the thread
// could end: the first thread of a process does not, and would show another
// namespace as the process's.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(own)
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Cookie returns the namespace's cookie, which is never given to another one
// until the next boot (SO_NETNS_COOKIE, socket(7)); errors.ErrUnsupported
// before Linux 5.14.
func Cookie(ns *os.File) (cookie uint64, err error) {
	err = Within(ns, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(err, unix.ENOPROTOOPT) {
			return fmt.Errorf("SO_NETNS_COOKIE: %w", errors.ErrUnsupported)
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return cookie, err
}

// All are the files of the network namespaces that have a name or a process,
// each namespace of a process once.
func All() iter.Seq[string] {
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
