// Package conflist keeps one CNI configuration for each network in a directory
// where container runtimes look. It makes no interface: that is the plugin's.
package conflist

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
)

// Dir is the directory. A file of ours is known by its plugin's managedBy and
// socket: several agents may share the directory, and a person may keep files
// there with the same plugin.
type Dir struct {
	dir    string // empty: none are kept
	socket string
	log    *slog.Logger

	mu    sync.Mutex
	wrong string // the last failure, logged once
}

// file is the shape of one. Versions: podman 4.3 refuses a cniVersion of
// 1.1.0, while a runtime that knows cniVersions takes the newest of them.
type file struct {
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"`
	Name        string   `json:"name"`
	Plugins     []plugin `json:"plugins"`
}

type plugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	Socket       string          `json:"socket,omitempty"`
	ManagedBy    string          `json:"managedBy"`
}

const managedBy = "agentd"

// New keeps the configurations in dir, none when it is empty. Their plugin talks to
// the agent at socket.
func New(dir, socket string, log *slog.Logger) *Dir {
	return &Dir{dir: dir, socket: socket, log: log}
}

// wanted is the file of a network.
func (c *Dir) wanted(network string) []byte {
	p := plugin{
		Type: "weft", ManagedBy: managedBy,
		Capabilities: map[string]bool{"aliases": true, "portMappings": true, "ips": true, "mac": true, "dns": true},
	}
	if c.socket != api.DefaultSocket {
		p.Socket = c.socket
	}
	b, _ := json.MarshalIndent(file{
		CNIVersion: "1.0.0", CNIVersions: []string{"0.4.0", "1.0.0", "1.1.0"}, Name: network, Plugins: []plugin{p},
	}, "", "  ")
	return append(b, '\n')
}

func (c *Dir) path(network string) string {
	return filepath.Join(c.dir, "weft-"+network+".conflist")
}

// Set makes the directory hold the files of these networks. Files of ours of
// other networks are removed if sweep says that the networks are all.
func (c *Dir) Set(networks []discovery.Network, sweep bool) {
	if c.dir == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := map[string]bool{}
	var errs []error
	for _, n := range networks {
		if n.State != discovery.NetworkDeleting {
			keep[c.path(n.Name)] = true
			errs = append(errs, c.write(n.Name))
		}
	}
	if sweep {
		errs = append(errs, c.sweep(keep))
	}
	c.report(errors.Join(errs...))
}

// report logs a failure when it is a new one: it is tried again every second.
func (c *Dir) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != c.wrong {
		c.log.Warn("CNI configurations not as wanted, will be retried", "dir", c.dir, "err", err)
	}
	c.wrong = text
}

// Check is the line of status about the directory.
func (c *Dir) Check() []api.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == "" {
		return nil
	}
	return []api.Check{{Name: "cni", State: api.CheckWarn, Detail: "podman and CNI runtimes do not find every network: " + c.wrong,
		Hint: "agentctl network ls # a file that is not ours makes room, or cni_conf_dir in agentd.yaml chooses another directory"}}
}

func (c *Dir) write(network string) error {
	want, path := c.wanted(network), c.path(network)
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(have, want):
		return nil
	case err == nil && !c.ours(have):
		return fmt.Errorf("%s is not ours and stays as it is", path)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	return datadir.ReplaceFile(path, want, 0o644)
}

// sweep removes files of ours, except those to keep.
func (c *Dir) sweep(keep map[string]bool) error {
	found, err := filepath.Glob(filepath.Join(c.dir, "weft-*.conflist"))
	errs := []error{err}
	for _, path := range found {
		if keep[path] {
			continue
		}
		if b, err := os.ReadFile(path); err == nil && c.ours(b) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

func (c *Dir) ours(text []byte) bool {
	var l file
	if json.Unmarshal(text, &l) != nil || len(l.Plugins) != 1 {
		return false
	}
	p := l.Plugins[0]
	return p.Type == "weft" && p.ManagedBy == managedBy && cmp.Or(p.Socket, api.DefaultSocket) == c.socket
}
