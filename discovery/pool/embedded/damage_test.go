package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery/pool/embedded"
)

// Whatever became of a page, the store answers under its id, or is refused.
func TestDamagedStoreIsServedOrRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	s, stop := run(t, embedded.Config{File: file})
	for i := range 50 {
		if _, err := put(t.Context(), s.Client(), fmt.Sprintf("weft/v1/key%d", i), string(bytes.Repeat([]byte("x"), 500))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for page := range len(whole) / 4096 {
		body := bytes.Clone(whole)
		body[page*4096+40] ^= 4
		file := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		s := embedded.New(embedded.Config{File: file, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		for {
			if _, err = s.ID(ctx); err == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				break
			}
		}
		cancel()
		if end := <-ended; err != nil && end == nil {
			t.Errorf("page %d: %v", page, err)
		}
	}
}
