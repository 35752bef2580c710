// Package datadir reads and writes the files that survive a restart of the agent:
// host.json says who this host is, cluster.json which cluster it is a member of. It
// also knows the token that lets a host in. It does not decide what the files say.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/weft-net/weft/discovery/boltfile"
)

// Schema is the number that every file of the data directory carries. A newer
// one is refused: an older agent must not write what it does not understand.
const Schema = 1

// The files of the directory.
const (
	HostFile    = "host.json"
	ClusterFile = "cluster.json"
	PendingFile = "pending.json"  // of an init that has not ended
	UnfreedFile = "unfreed.json"  // while hosts that this one replaced hold something
	TokenFile   = "join.token"    // in one line
	CAFile      = "consul-ca.pem" // that came with the token
	LeasesDB    = "leases.db"     // own blocks, leases and endpoints
	ViewDB      = "view.db"       // the cluster as it was last seen
	StoreDB     = "store.db"      // of the embedded store
	HistoryDir  = "history"       // events, in segments
	lockFile    = "lock"
)

// Dir is the directory of everything that survives a restart.
type Dir struct {
	path   string
	lock   *os.File
	refuse func(source string, why error, hint string)

	probing sync.Mutex // held while it is tried whether the directory takes writes
	probed  time.Time
	problem *boltfile.WriteError // of the last try
}

// ErrTaken: another agent has the lock of the directory.
var ErrTaken = errors.New("another agent uses this data directory")

// Open makes the directory and locks it, so that two agents never write
// the same files. The lock goes with the process, and needs no write: what is in a
// directory that cannot be written is served. A directory or a file in it that
// another user could change is an *UnsafeError.
func Open(path string) (*Dir, error) {
	d := &Dir{path: path, refuse: func(string, error, string) {}}
	if err := makeDir("data directory", path, 0o700); err != nil {
		return nil, err
	}
	if err := d.checkFiles(); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(d.File(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if boltfile.Unwritable(path, err) != nil {
		f, err = os.Open(d.File(lockFile))
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", path, ErrTaken)
	}
	d.lock = f
	return d, nil
}

// Close gives up the lock.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

// File is the path of one of its files.
func (d *Dir) File(name string) string { return filepath.Join(d.path, name) }

// ErrNewer: a file was written by a newer agent. ErrDamaged: a file does not hold what
// was written, and so does its copy.
var (
	ErrNewer   = errors.New("written by a newer agent")
	ErrDamaged = errors.New("damaged")
)

// checked is what can say that what was read of a file makes no sense.
type checked interface{ Check() error }

// Has reports whether there is a file, or its copy.
func (d *Dir) Has(name string) bool {
	for _, path := range d.places(name) {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// places are where a file is written. Without host.json and cluster.json there is no
// membership, so they are there twice.
func (d *Dir) places(name string) []string {
	if name == HostFile || name == ClusterFile {
		return []string{d.File(name), d.File(name) + copySuffix}
	}
	return []string{d.File(name)}
}

const copySuffix = ".copy"

// Read decodes a file of the directory, or its copy. A damaged file is put aside, when
// the copy is whole, or when the agent can do without it; then there is none:
// os.ErrNotExist. into is a pointer.
func (d *Dir) Read(name string, into any) error {
	places := d.places(name)
	err := read(places[0], into)
	if err == nil && len(places) > 1 {
		if _, none := os.Stat(places[1]); errors.Is(none, os.ErrNotExist) {
			return ignore(d.Write(name, into)) // an earlier agent made no copy
		}
	}
	if err == nil || errors.Is(err, ErrNewer) {
		return err
	}
	there := !errors.Is(err, os.ErrNotExist)
	if len(places) > 1 {
		switch second := read(places[1], into); {
		case second == nil:
			d.putAside(places[0], err)
			return ignore(d.Write(name, into)) // else it is read from the copy again
		case !there && errors.Is(second, os.ErrNotExist):
			return err
		}
		return fmt.Errorf("%w, and there is no copy: %w", err, ErrDamaged)
	}
	if there && errors.Is(err, ErrDamaged) {
		d.putAside(places[0], err)
		return fmt.Errorf("%w: %w", err, os.ErrNotExist)
	}
	return err
}

func ignore(error) error { return nil }

// putAside renames a damaged file, and says so.
func (d *Dir) putAside(path string, why error) {
	if errors.Is(why, os.ErrNotExist) {
		d.refuse(path, errors.New("it is missing: taken from its copy"), "")
		return
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	hint := "rm " + aside + " # when nobody needs it any more"
	if err := os.Rename(path, aside); err != nil {
		hint = ""
	}
	d.refuse(path, why, hint)
}

// OnRefused calls refuse from now on for each file that was damaged.
func (d *Dir) OnRefused(refuse func(source string, why error, hint string)) { d.refuse = refuse }

func read(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if b, err = boltfile.Unseal([]byte(filepath.Base(strings.TrimSuffix(path, copySuffix))), b); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if head.Schema > Schema {
		return fmt.Errorf("%s: %w (schema %d, this one knows %d)", path, ErrNewer, head.Schema, Schema)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if c, ok := into.(checked); ok {
		if err := c.Check(); err != nil {
			return fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
		}
	}
	return nil
}

// Write replaces a file of the directory: after a crash it holds either the old
// content or the new one, and the new one is on the disk when Write returns.
func (d *Dir) Write(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", d.File(name), err)
	}
	b = boltfile.Seal([]byte(name), append(b, '\n'))
	for _, path := range d.places(name) {
		if err := ReplaceFile(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes files of the directory, with their copies. One that is absent is no
// error.
func (d *Dir) Remove(names ...string) error {
	var errs []error
	for _, n := range names {
		for _, path := range d.places(n) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// ReplaceFile replaces a file whole, on the disk when it returns. A file system that
// takes no writes is a *boltfile.WriteError.
func ReplaceFile(path string, b []byte, mode os.FileMode) error {
	err := renameio.WriteFile(path, b, mode, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if why := boltfile.Unwritable(path, err); why != nil {
		return why
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
