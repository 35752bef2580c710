package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery/boltfile"
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

// A flipped bit within a value leaves the pages whole: the store begins anew under its id,
// and says so. A file of an earlier program has no checksums, or stale ones.
func TestFlippedValueOfTheStoreIsNoticed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	s, stop := run(t, embedded.Config{File: file})
	id, err := s.ID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"weft/v1/one", "weft/v1/two"} {
		if _, err := put(t.Context(), s.Client(), key, `{"name":"the-value-of-`+key[8:]+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		change  func(tx *bbolt.Tx) error
		damaged bool
	}{
		"nothing": {func(*bbolt.Tx) error { return nil }, false},
		"a letter": {func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("kv"))
			v := bytes.Clone(b.Get([]byte("weft/v1/two")))
			v[len(v)-3] ^= 1
			return b.Put([]byte("weft/v1/two"), v)
		}, true},
		"a cut value":               {func(tx *bbolt.Tx) error { return tx.Bucket([]byte("kv")).Put([]byte("weft/v1/two"), []byte("short")) }, true},
		"an earlier program's file": {func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("sums")) }, false},
		"a later write of an earlier program": {func(tx *bbolt.Tx) error {
			v := append(make([]byte, 7, 40), 9) // created
			v = append(append(v, make([]byte, 7)...), 9)
			return tx.Bucket([]byte("kv")).Put([]byte("weft/v1/two"), append(append(v, make([]byte, 8)...), "{}"...))
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := embedded.Config{File: filepath.Join(t.TempDir(), "store.db")}
			if err := os.WriteFile(cfg.File, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bbolt.Open(cfg.File, 0o600, nil)
			if err == nil {
				err = errors.Join(db.Update(tt.change), db.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			var said []boltfile.Damage
			cfg.Damaged = func(d boltfile.Damage) { said = append(said, d) }
			s, stop := run(t, cfg)
			defer stop()
			if now, err := s.ID(t.Context()); err != nil || now != id {
				t.Errorf("id %s, %v, want %s", now, err, id)
			}
			if (len(said) == 1) != tt.damaged || tt.damaged && (said[0].File != cfg.File || !strings.Contains(said[0].Why, "weft/v1/two")) {
				t.Errorf("said: %+v", said)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://store/v1/kv/weft/v1/one", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if there := resp.StatusCode == http.StatusOK; there == tt.damaged {
				t.Errorf("the other key: %s", resp.Status)
			}
		})
	}
}
