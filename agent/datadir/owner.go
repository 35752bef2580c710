package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// UnsafeError says that another user could change what the agent trusts. It is an
// os.ErrPermission.
type UnsafeError struct {
	What string // and where
	Why  string
	Mend string // the command that mends it
}

// Error names what is unsafe, and why.
func (e *UnsafeError) Error() string { return e.What + " " + e.Why }

// Is makes the error os.ErrPermission.
func (e *UnsafeError) Is(target error) bool { return target == fs.ErrPermission }

// OpenRunDir makes the directory of the agent's sockets, unless it is there and safe.
func OpenRunDir(path string) error { return makeDir("run directory", path, 0o755) }

// CheckStore refuses an embedded store's file that another user could change, or put
// another in the place of.
func CheckStore(file string) error {
	if err := checkAbove("directory of the embedded store", file); err != nil {
		return err
	}
	return checkFile(file)
}

func makeDir(what, path string, mode fs.FileMode) error {
	if err := checkAbove(what, path); err != nil {
		return err
	}
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return checkDir(what, path)
}

// checkAbove refuses a path that another user could lead elsewhere: each directory above,
// and each link on the way, belongs to root, to the agent's user or to who called sudo,
// and nobody else may rename what is in it. What is not there yet is ours to make.
func checkAbove(what, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := filepath.EvalSymlinks(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", what, err) // links in a circle
	}
	return walkAbove(what+" "+path+" is below", path)
}

func walkAbove(what, path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case info.Mode().Type() == fs.ModeSymlink:
			if err := errors.Join(checkUser(what, dir, info, "chown -h"), walkLink(what, dir)); err != nil {
				return err
			}
		default:
			if err := errors.Join(checkUser(what, dir, info, "chown"), checkShared(what, dir, info)); err != nil {
				return err
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// walkLink looks at where a link leads, and at what is above that.
func walkLink(what, link string) error {
	to, err := os.Readlink(link)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(link), to)
	}
	return walkAbove(what, filepath.Join(to, "in it"))
}

// checkUser is checkOwner, with the user who became root by sudo(8) as one of us.
func checkUser(what, path string, info fs.FileInfo, chown string) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && os.Getenv("SUDO_UID") == strconv.Itoa(int(st.Uid)) {
		return nil
	}
	return checkOwner(what, path, info, chown)
}

// checkShared refuses a directory in which others may rename what is not theirs: one with
// the sticky bit, as /tmp, lets them not.
func checkShared(what, path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	open := fs.FileMode(0o002)
	if ok && st.Gid != 0 {
		open |= 0o020
	}
	if info.Mode().Perm()&open == 0 || info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	return &UnsafeError{what + " " + path, fmt.Sprintf("which may be written to by other users (mode %04o)", info.Mode().Perm()), "chmod go-w " + path}
}

// checkDir refuses a directory that another user owns or may write to. A link to one
// is followed, unless another user could lead it elsewhere.
func checkDir(what, path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if link.Mode().Type() == fs.ModeSymlink {
		if err := errors.Join(checkOwner(what, path, link, "chown -h"), walkLink(what+" "+path+" is below", path)); err != nil {
			return err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case !info.IsDir():
		return fmt.Errorf("%s: %s is no directory", what, path)
	}
	return check(what, path, info)
}

// checkFiles refuses a file of the directory that another user owns or may write to,
// and everything that is no file of its own: a link leads to what somebody else may
// have chosen.
func (d *Dir) checkFiles() error {
	var errs []error
	for _, name := range []string{lockFile, HostFile, ClusterFile, PendingFile, UnfreedFile, TokenFile, CAFile, LeasesDB, ViewDB, StoreDB} {
		errs = append(errs, checkFile(d.File(name)))
	}
	return errors.Join(errs...)
}

func checkFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		to, _ := os.Readlink(path)
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		return &UnsafeError{path, "is a link to " + to, fmt.Sprintf("cp --remove-destination %s %s", to, path)}
	case !info.Mode().IsRegular():
		return &UnsafeError{path, "is no file", "rm -r " + path}
	}
	return check("file", path, info)
}

func check(what, path string, info fs.FileInfo) error {
	if err := checkOwner(what, path, info, "chown"); err != nil {
		return err
	}
	const others = 0o022
	if info.Mode().Perm()&others != 0 {
		return &UnsafeError{what + " " + path, fmt.Sprintf("may be written to by other users (mode %04o)", info.Mode().Perm()), "chmod go-w " + path}
	}
	return nil
}

// checkOwner wants root, or the user that the agent runs as.
func checkOwner(what, path string, info fs.FileInfo, chown string) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return &UnsafeError{what + " " + path, fmt.Sprintf("belongs to %s, not to %s", userName(int(st.Uid)), userName(os.Geteuid())),
		fmt.Sprintf("%s %d %s", chown, os.Geteuid(), path)}
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}
