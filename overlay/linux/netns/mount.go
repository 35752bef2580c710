package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Make makes a named namespace unless it is there: a new network namespace, kept
// by a bind mount at path as ip-netns(8) does it, so that it outlives every
// process. It may be called by several processes at once.
func Make(path string) error {
	if f, err := Open(path); err == nil {
		return f.Close()
	}
	if fixed(path) {
		return fmt.Errorf("%s: %w here, so it has to be made outside: systemctl restart agentd does that", path, unix.EROFS)
	}
	if err := shareMounts(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	defer f.Close()
	// Two agents that start at once must not mount over each other.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if f, err := Open(path); err == nil {
		return f.Close()
	}
	return mountNew(path)
}

func mountNew(path string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount it on %s: %w", path, err)
		}
		return nil
	})
}

// Named reports whether path is the name of an open namespace.
func Named(path string, ns *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := ns.Stat()
	return err == nil && os.SameFile(there, open)
}

// Name mounts an open namespace at path, instead of what is mounted there. The error
// is unix.EROFS where that can only be done from outside.
func Name(path string, ns *os.File) error {
	if fixed(path) {
		return fmt.Errorf("%s: %w", path, unix.EROFS)
	}
	if err := shareMounts(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.NewSyscallError("mount", unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "", unix.MS_BIND, ""))
}

// shareMounts makes a directory whose mounts are seen in every mount namespace
// that was made from ours, so that ip-netns(8) elsewhere can open what is
// mounted there.
func shareMounts(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Not a mount point yet.
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
}

// fixed reports whether the namespace can be neither made nor removed from here:
// a sandboxed service sees the directory read-only. A namespace that it mounted
// would be seen by nobody else and end with the service, traffic and all.
func fixed(path string) bool { return unix.Access(filepath.Dir(path), unix.W_OK) == unix.EROFS }

// Drop unmounts a named namespace and removes its file; nil when there is none.
// Where the directory is read-only it stays: empty it costs nothing, and the
// next agent needs it.
func Drop(path string) error {
	if fixed(path) {
		return nil
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
