// Package embedded keeps the pool of a single machine in one file, behind the
// part of Consul's KV HTTP API that discovery/pool uses. It replicates nothing,
// listens on no TCP port and answers every other call with 501.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/weft-net/weft/discovery/boltfile"
)

// Config says where the store is.
type Config struct {
	// File is the database. Its directory is made if it is missing. Agents of
	// one machine that name the same file share one store.
	File string
	// Socket is where the serving agent answers the others, mode 0600.
	// Empty: in this process only.
	Socket string
	// Damaged is told of a file that was damaged. Nil: it is only logged.
	Damaged func(boltfile.Damage)
	// Log is told of takeovers. Nil: slog.Default.
	Log *slog.Logger
}

// Store is one agent's access to the file: the agent serves it while it has the
// file's lock, and asks the serving agent otherwise.
type Store struct {
	cfg    Config
	remote *http.Transport // to the serving agent's socket
	local  atomic.Pointer[server]
	unable atomic.Value // why Run ended, a reason; it may be called again
}

type reason struct{ error }

// ErrAway is wrapped by calls made while nobody serves the store.
var ErrAway = errors.New("embedded store is not being served")

// New returns a store that nobody serves before Run is called.
func New(cfg Config) *Store {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Damaged == nil {
		cfg.Damaged = func(boltfile.Damage) {}
	}
	return &Store{cfg: cfg, remote: socketTransport(cfg.Socket)}
}

// Client returns a client that reaches the store by any http URL, "http://store"
// say: in process while this agent has the file's lock, over the socket
// otherwise. Its errors wrap ErrAway, or are those of the socket.
func (s *Store) Client() *http.Client {
	return &http.Client{Transport: transport{s}}
}

// ID returns the identity of the file: 32 hex digits made with it. Two machines
// never have the same.
func (s *Store) ID(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store/v1/status/leader", nil)
	if err != nil {
		return "", err
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return "", fmt.Errorf("ask embedded store for its id: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", fmt.Errorf("ask embedded store for its id: %w", err)
	}
	id := resp.Header.Get(headerID)
	if resp.StatusCode != http.StatusOK || id == "" {
		return "", fmt.Errorf("ask embedded store for its id: %s", resp.Status)
	}
	return id, nil
}
