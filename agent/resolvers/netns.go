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

// write puts our file in the place of one that is the user's, of which it keeps
// a copy.
func (f Files) write(netns string, b []byte) error {
	path := f.path(netns)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case !bytes.HasPrefix(old, []byte(mark)):
		if err := os.MkdirAll(f.kept, 0o700); err != nil {
			return err
		}
		if err := datadir.ReplaceFile(filepath.Join(f.kept, netns), old, 0o644); err != nil {
			return err
		}
	}
	return datadir.ReplaceFile(path, b, 0o644)
}

// TakeBack removes our file and restores the one that was there before. A file
// that is the user's is left alone.
func (f Files) TakeBack(netns string) error {
	path, kept := f.path(netns), filepath.Join(f.kept, netns)
	now, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(now, []byte(mark)) {
		return nil
	}
	old, err := os.ReadFile(kept)
	switch {
	case err == nil:
		err = errors.Join(datadir.ReplaceFile(path, old, 0o644), os.Remove(kept))
	case errors.Is(err, os.ErrNotExist):
		err = os.Remove(path)
	}
	// Empty directories are ours as well.
	_ = os.Remove(filepath.Dir(path))
	_ = os.Remove(f.kept)
	return err
}
