package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/weft-net/weft/discovery"
)

// schema is the number that every file of the data directory carries. A newer
// one is refused: an older agent must not write what it does not understand.
const schema = 1

// hostFile is host.json: who this host is. It is written before gossip opens,
// so that no two starts ever speak with one incarnation.
type hostFile struct {
	Schema      int              `json:"schema"`
	ID          discovery.HostID `json:"id"`
	Incarnation uint64           `json:"incarnation"`
	Name        string           `json:"name"`
}

// clusterFile is cluster.json: which cluster this host is a member of, and the
// settings that all members share.
type clusterFile struct {
	Schema        int              `json:"schema"`
	ID            string           `json:"id"` // 32 hex digits
	Keys          [][]byte         `json:"keys"`
	Domain        string           `json:"domain"`
	Pool          netip.Prefix     `json:"pool"`
	Profile       string           `json:"profile"`
	GossipPort    uint16           `json:"gossip_port"`
	TunnelPort    uint16           `json:"tunnel_port"`
	WireGuardPort uint16           `json:"wireguard_port,omitempty"` // as pool.Meta.WGPort
	Consul        string           `json:"consul,omitempty"`         // URL; empty: the embedded store
	Prefix        string           `json:"prefix"`
	CA            []byte           `json:"ca,omitempty"`
	Store         string           `json:"store,omitempty"`     // id of the embedded store
	Peers         []netip.AddrPort `json:"peers,omitempty"`     // given to join
	Forgotten     string           `json:"forgotten,omitempty"` // who took this host out
	Cloned        bool             `json:"cloned,omitempty"`    // another agent runs under this id
}

// dataDir is the directory of everything that survives a restart.
type dataDir struct {
	path string
	lock *os.File
}

var errDataDirTaken = errors.New("another agent uses this data directory")

// openDataDir makes the directory and locks it, so that two agents never write
// the same files. The lock goes with the process.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", path, errDataDirTaken)
	}
	return &dataDir{path: path, lock: f}, nil
}

func (d *dataDir) close() error { return d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// read decodes a file of the directory. It returns an error that is
// os.ErrNotExist when there is none.
func (d *dataDir) read(name string, into any) error {
	b, err := os.ReadFile(d.file(name))
	if err != nil {
		return err
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	if head.Schema > schema {
		return fmt.Errorf("%s: written by a newer agent (schema %d, this one knows %d)", d.file(name), head.Schema, schema)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	return nil
}

// write replaces a file of the directory: after a crash it holds either the old
// content or the new one, and the new one is on the disk when write returns.
func (d *dataDir) write(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	return replaceFile(d.file(name), append(b, '\n'), 0o600)
}

func (d *dataDir) remove(names ...string) error {
	var errs []error
	for _, n := range names {
		if err := os.Remove(d.file(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// replaceFile replaces a file whole, on the disk when it returns.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	err := renameio.WriteFile(path, b, mode, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
