package embedded_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool/embedded"
)

// run runs a store until the test ends, or until stop is called.
func run(t testing.TB, cfg embedded.Config) (s *embedded.Store, stop func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s = embedded.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	await(t, s)
	return s, stop
}

func TestConformance(t *testing.T) {
	for _, tt := range []struct{ name, socket string }{
		{"in process", ""},
		{"over the socket", "store.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			dir := t.TempDir()
			cfg := embedded.Config{File: filepath.Join(dir, "store.db")}
			if tt.socket != "" {
				cfg.Socket = filepath.Join(dir, tt.socket)
			}
			s, stop := run(t, cfg)
			defer stop()
			if tt.socket != "" {
				var stopOther func()
				s, stopOther = run(t, cfg) // the first has the lock: this one asks it
				defer stopOther()
			}
			discoverytest.PoolConformance(t, discoverytest.Store{URL: "http://store", Client: s.Client()})
		})
	}
}
