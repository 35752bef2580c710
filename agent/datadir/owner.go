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
func OpenRunDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	return checkDir("run directory", path)
}

// checkDir refuses a directory that another user owns or may write to. A link to one
// is followed, unless another user could lead it elsewhere.
func checkDir(what, path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if link.Mode().Type() == fs.ModeSymlink {
		if err := checkOwner(what, path, link, "chown -h"); err != nil {
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
		path := d.File(name)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case info.Mode().Type() == fs.ModeSymlink:
			to, _ := os.Readlink(path)
			if !filepath.IsAbs(to) {
				to = d.File(to)
			}
			errs = append(errs, &UnsafeError{path, "is a link to " + to, fmt.Sprintf("cp --remove-destination %s %s", to, path)})
		case !info.Mode().IsRegular():
			errs = append(errs, &UnsafeError{path, "is no file", "rm -r " + path})
		default:
			errs = append(errs, check("file", path, info))
		}
	}
	return errors.Join(errs...)
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
