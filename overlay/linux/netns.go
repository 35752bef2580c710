package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// space is a network namespace with a socket in it.
type space struct {
	*conn
	ns    *os.File
	index *indexTable
}

// openSpace opens the namespace at path.
func openSpace(path string) (*space, error) {
	ns, err := openNetns(path)
	if err != nil {
		return nil, err
	}
	s := &space{ns: ns, index: newIndexTable()}
	err = within(ns, func() (err error) {
		s.conn, err = dial()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return s, nil
}

func (s *space) close() error { return errors.Join(s.conn.close(), s.ns.Close()) }

// nsfsMagic is the type of the file system behind namespace files (ioctl_ns(2)).
const nsfsMagic = 0x6e736673

// openNetns opens a namespace file. A plain file of that name, left behind by a
// reboot, is no namespace: os.ErrNotExist.
func openNetns(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	//nolint:unconvert // the field is 32 bits wide on some machines
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || int64(st.Type) != nsfsMagic {
		return nil, errors.Join(&fs.PathError{Op: "open network namespace", Path: path, Err: fs.ErrNotExist}, f.Close())
	}
	return f, nil
}

// within runs fn on a thread in the namespace, for what a thread alone can do
// there: open a socket, use /proc/sys/net. The thread is one of its own; should
// it not find back it is never given to another goroutine but ends.
func within(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
			return
		}
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// FabricPath returns the file of a fabric namespace given by name or path.
func FabricPath(fabric string) string {
	if fabric == "" {
		fabric = "weft"
	}
	if filepath.IsAbs(fabric) {
		return fabric
	}
	return filepath.Join("/run/netns", fabric)
}

// MakeFabric makes the fabric namespace unless it is there: a new network
// namespace, kept by a bind mount as ip-netns(8) does it, so that it outlives
// every process. It may be called by several processes at once.
func MakeFabric(path string) error {
	if f, err := openNetns(path); err == nil {
		return f.Close()
	}
	if fixed(path) {
		return fmt.Errorf("make fabric namespace %s: %w here, so it has to be made outside: systemctl restart agentd does that", path, unix.EROFS)
	}
	if err := shareMounts(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make fabric namespace %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make fabric namespace: %w", err)
	}
	defer f.Close()
	// Two agents that start at once must not mount over each other.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if f, err := openNetns(path); err == nil {
		return f.Close()
	}
	return mountNew(path)
}

func mountNew(path string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make network namespace: %w", err)
			return
		}
		err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		if err != nil {
			err = fmt.Errorf("mount network namespace on %s: %w", path, err)
		}
		// The way back matters although the thread could end: the first thread
		// of a process does not, and would show the fabric as the process's.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// shareMounts makes a directory whose mounts are seen in every mount namespace
// that was made from ours, so that ip-netns(8) elsewhere can open the fabric.
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

// dropFabric unmounts the fabric namespace and removes its file. Where it is
// fixed it stays: empty it costs nothing, and the next member needs it.
func dropFabric(path string) error {
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
