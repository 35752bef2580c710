package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/weft-net/weft/discovery/pace"
)

// retry is how long an agent waits before it tries lock and socket again while
// the serving agent has the one and not yet the other.
const retry = 20 * time.Millisecond

// Run serves the file whenever its lock is free, so that the store outlives
// any of the agents that share it. It returns nil when ctx ends, and an error
// when the file or the socket cannot be used.
func (s *Store) Run(ctx context.Context) (err error) {
	defer s.remote.CloseIdleConnections()
	defer func() {
		if err != nil {
			s.unable.Store(reason{err})
		}
	}()
	if err := os.MkdirAll(filepath.Dir(s.cfg.File), 0o700); err != nil {
		return fmt.Errorf("make directory of embedded store: %w", err)
	}
	for told := false; ctx.Err() == nil; {
		switch f, err := openFile(s.cfg.File); {
		case err == nil:
			if d := f.damage; d != nil {
				s.cfg.Log.Error("the embedded store was damaged: it begins anew, and the members write back what they have",
					"file", d.File, "why", d.Why, "aside", d.Aside)
				s.cfg.Damaged(*d)
			}
			if f.ReadOnly != nil {
				s.cfg.Log.Error("the embedded store can be read only", "err", f.ReadOnly)
			}
			if err := s.serve(ctx, f); err != nil {
				return err
			}
		case errors.Is(err, bolterrors.ErrTimeout):
			if !told && s.cfg.Socket == "" {
				s.cfg.Log.Warn("embedded store is locked by another process, waiting", "file", s.cfg.File)
				told = true
			}
			s.awaitEnd(ctx)
		default:
			return fmt.Errorf("open embedded store %s: %w", s.cfg.File, err)
		}
	}
	return nil
}

// awaitEnd returns when the serving agent may be gone. An open connection says
// so at once: the kernel closes it with the agent, however the agent ended.
func (s *Store) awaitEnd(ctx context.Context) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.cfg.Socket)
	if err != nil {
		pace.Sleep(ctx, retry)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_, _ = conn.Read(make([]byte, 1)) // the serving agent never speaks first: this ends with it
	s.remote.CloseIdleConnections()
}

// serve answers for the file until ctx ends, or until one that could only be read can
// be written.
func (s *Store) serve(ctx context.Context, f *file) error {
	defer f.Close()
	if f.ReadOnly != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer cancel()
			for pace.Sleep(ctx, time.Second) && !writable(s.cfg.File) {
			}
		}()
	}
	srv := newServer(f, s.cfg.Log)
	l, err := s.listen()
	if err != nil {
		return err
	}
	s.cfg.Log.Info("embedded store opened", "file", s.cfg.File, "socket", s.cfg.Socket)
	s.local.Store(srv)
	defer s.local.Store(nil)
	defer srv.close()
	if l == nil {
		<-ctx.Done()
		return nil
	}
	return serveSocket(ctx, srv, l)
}

func writable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// listen binds the socket, or nothing when there is none. It takes the place
// of a dead agent's socket in one step, and never exists with another mode
// than 0600.
func (s *Store) listen() (net.Listener, error) {
	if s.cfg.Socket == "" {
		return nil, nil
	}
	fresh := s.cfg.Socket + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("bind embedded store: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("bind embedded store: %w", err)
	}
	// Left in place at the end: a successor may have put its own there.
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, s.cfg.Socket)); err != nil {
		l.Close()
		return nil, fmt.Errorf("bind embedded store: %w", err)
	}
	return l, nil
}

// serveSocket answers the socket until ctx ends; then it ends every connection, the
// waiting ones too, so that their clients ask the next agent that serves.
func serveSocket(ctx context.Context, h http.Handler, l net.Listener) error {
	hs := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { hs.Close() })()
	if err := hs.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve embedded store: %w", err)
	}
	return nil
}
