package datadir

import (
	"bytes"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/discovery/boltfile"
)

const (
	probeFile  = "probe"
	probeSize  = 64 << 10    // bytes; what the agent writes at once is rarely more
	probeEvery = time.Second // while something is wrong
	probeIdle  = time.Minute // while nothing is: each try costs the disk a write
)

// Writable says why the directory takes no files; nil: it does. Other files than ours may
// have filled it, and a file system that meets an error makes itself read-only. It is
// tried when its figures say so, and once a minute: a quota is in no figure.
func (d *Dir) Writable() *boltfile.WriteError {
	d.probing.Lock()
	defer d.probing.Unlock()
	now := time.Now()
	age := now.Sub(d.probed)
	if age >= probeIdle || age >= probeEvery && (d.problem != nil || d.suspect()) {
		d.problem, d.probed = boltfile.Unwritable(d.path+"/", probe(d.File(probeFile))), now
	}
	return d.problem
}

// probe writes a file and removes it. It does not wait for the disk: a file system says
// at the write that it is full or read-only.
func probe(path string) error {
	err := os.WriteFile(path, bytes.Repeat([]byte{'w'}, probeSize), 0o600)
	if gone := os.Remove(path); err == nil && !errors.Is(gone, os.ErrNotExist) {
		err = gone
	}
	return err
}

// suspect reports whether the figures of the file system speak of trouble.
func (d *Dir) suspect() bool {
	var st unix.Statfs_t
	err := unix.Statfs(d.path, &st)
	return err != nil || st.Flags&unix.ST_RDONLY != 0 || st.Bavail*uint64(st.Bsize) < probeSize || st.Files > 0 && st.Ffree == 0
}

// Free is how much the file system of the directory takes: bytes, and files.
func (d *Dir) Free() (bytes, files uint64) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, 0
	}
	return st.Bavail * uint64(st.Bsize), st.Ffree
}
