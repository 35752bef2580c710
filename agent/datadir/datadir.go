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
	"syscall"

	"github.com/google/renameio/v2"
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
)

// Dir is the directory of everything that survives a restart.
type Dir struct {
	path string
	lock *os.File
}

// ErrTaken: another agent has the lock of the directory.
var ErrTaken = errors.New("another agent uses this data directory")

// Open makes the directory and locks it, so that two agents never write
// the same files. The lock goes with the process.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", path, ErrTaken)
	}
	return &Dir{path: path, lock: f}, nil
}

// Close gives up the lock.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

// File is the path of one of its files.
func (d *Dir) File(name string) string { return filepath.Join(d.path, name) }

// Read decodes a file of the directory. It returns an error that is
// os.ErrNotExist when there is none.
func (d *Dir) Read(name string, into any) error {
	b, err := os.ReadFile(d.File(name))
	if err != nil {
		return err
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("%s: %w", d.File(name), err)
	}
	if head.Schema > Schema {
		return fmt.Errorf("%s: written by a newer agent (schema %d, this one knows %d)", d.File(name), head.Schema, Schema)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", d.File(name), err)
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
	return ReplaceFile(d.File(name), append(b, '\n'), 0o600)
}

// Remove removes files of the directory. One that is absent is no error.
func (d *Dir) Remove(names ...string) error {
	var errs []error
	for _, n := range names {
		if err := os.Remove(d.File(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ReplaceFile replaces a file whole, on the disk when it returns.
func ReplaceFile(path string, b []byte, mode os.FileMode) error {
	err := renameio.WriteFile(path, b, mode, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
