package resolvers

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/datadir"
)

// netnsEtc is where ip-netns(8) looks for files that stand in for those of
// /etc inside a named namespace.
const netnsEtc = "/etc/netns"

// mark begins every resolv.conf that is ours; without it a file is the user's.
const mark = "# weft: endpoint "

// Files are the resolv.conf files of named namespaces, and what was there before
// ours. The latter are kept elsewhere: ip-netns(8) binds every file of the
// namespace's directory over its namesake in /etc, and complains of one that has
// none.
type Files struct {
	etc  string // holds NAME/resolv.conf
	kept string // holds NAME: the file that was there before
}

// NewFiles keeps the users' files below a data directory.
func NewFiles(dataDir string) Files {
	return Files{etc: netnsEtc, kept: filepath.Join(dataDir, "resolv")}
}

// File is what a namespace's resolv.conf says.
type File struct {
	Endpoint string     // the id of the one whose network is asked
	Server   netip.Addr // that network's gateway
	Search   []string
}

// Put gives a namespace our file, so that `ip netns exec NAME …` resolves names at
// once. It keeps a copy of one that is the user's.
func (f Files) Put(netns string, c File) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", mark, c.Endpoint)
	// Exactly one: a second, public one would answer NXDOMAIN for our names
	// (musl asks all at once and takes the first answer).
	fmt.Fprintf(&b, "nameserver %s\n", c.Server)
	fmt.Fprintf(&b, "search %s\noptions ndots:1\n", strings.Join(slices.Compact(slices.Clone(c.Search)), " "))
	return f.write(netns, b.Bytes())
}

func (f Files) path(netns string) string { return filepath.Join(f.etc, netns, "resolv.conf") }

// owner is whose file stands at a path.
type owner int

const (
	nobody owner = iota // there is none
	weft
	user
)

// ownerOf looks at a file itself and not at what a link leads to: a link is a user's.
func ownerOf(path string) (owner, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nobody, nil
	case err != nil:
		return nobody, err
	case info.Mode()&os.ModeSymlink != 0:
		return user, nil
	case !info.Mode().IsRegular():
		return user, fmt.Errorf("%s is no file: %v", path, info.Mode())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nobody, err
	}
	if bytes.HasPrefix(b, []byte(mark)) {
		return weft, nil
	}
	return user, nil
}

// write puts our file in the place of one that is the user's, which it keeps.
func (f Files) write(netns string, b []byte) error {
	path := f.path(netns)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	whose, err := ownerOf(path)
	if err != nil {
		return err
	}
	if whose == user {
		if err := os.MkdirAll(f.kept, 0o700); err != nil {
			return err
		}
		if err := duplicate(path, filepath.Join(f.kept, netns)); err != nil {
			return err
		}
	}
	return datadir.ReplaceFile(path, b, 0o644)
}

// TakeBack removes our file and restores the one that was there before. A file
// that is the user's is left alone.
func (f Files) TakeBack(netns string) error {
	path, kept := f.path(netns), filepath.Join(f.kept, netns)
	if whose, err := ownerOf(path); err != nil || whose != weft {
		return nil
	}
	_, err := os.Lstat(kept)
	switch {
	case err == nil:
		if err = duplicate(kept, path); err == nil {
			err = os.Remove(kept)
		}
	case errors.Is(err, os.ErrNotExist):
		err = os.Remove(path)
	}
	// Empty directories are ours as well.
	_ = os.Remove(filepath.Dir(path))
	_ = os.Remove(f.kept)
	return err
}

// duplicate puts a file, or a link as the link that it is, in the place of another, with
// its owner, its mode and its times: the very same file where one file system has both.
// There is a file at every moment.
func duplicate(from, to string) error {
	temp := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".new")
	_ = os.Remove(temp) // of a process that was killed
	defer func() { _ = os.Remove(temp) }()
	if os.Link(from, temp) != nil {
		if err := copyFile(from, temp); err != nil {
			return fmt.Errorf("keep %s: %w", from, err)
		}
	}
	return os.Rename(temp, to)
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	uid, gid := -1, -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid, gid = int(st.Uid), int(st.Gid)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return errors.Join(os.Symlink(target, to), os.Lchown(to, uid, gid))
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, b, 0o600), os.Lchown(to, uid, gid), os.Chmod(to, info.Mode()), os.Chtimes(to, time.Time{}, info.ModTime()))
}
