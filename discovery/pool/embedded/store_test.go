package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery/pool/embedded"
)

func TestOutsideTheSubset(t *testing.T) {
	s, _ := run(t, embedded.Config{File: filepath.Join(t.TempDir(), "s.db")})
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"PUT", "/v1/session/create", "", 501},
		{"GET", "/v1/catalog/nodes", "", 501},
		{"PUT", "/v1/kv/a?acquire=x", "", 501},
		{"POST", "/v1/kv/a", "", 501},
		{"GET", "/v1/kv/a?dc=other", "", 501},
		{"GET", "/v1/kv/a?ns=other", "", 501},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"lock","Key":"a","Session":"s"}}]`, 501},
		{"PUT", "/v1/txn", `[{"KV":{"Verb":"get-tree","Key":"a"}}]`, 501},
		{"PUT", "/v1/txn", `[{"Node":{"Verb":"get"}}]`, 400},
		{"PUT", "/v1/txn", `not json`, 400},
		{"PUT", "/v1/kv/a?cas=x", "", 400},
		{"PUT", "/v1/kv/", "", 400},
		{"GET", "/v1/kv/", "", 400},
		{"DELETE", "/v1/kv/a?cas=1&recurse", "", 400},
		{"GET", "/v1/kv/a?index=x", "", 400},
		{"GET", "/v1/kv/a?wait=x", "", 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://store"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, resp.StatusCode, b, tt.want)
		}
	}
}

func TestSocketIsForItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	cfg := embedded.Config{File: filepath.Join(dir, "new", "folder", "s.db"), Socket: filepath.Join(dir, "s")}
	if err := os.WriteFile(cfg.Socket, []byte("left by a dead agent"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	info, err := os.Stat(cfg.Socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket: %v (%v), want a socket of mode 0600", info.Mode(), err)
	}
	for _, path := range []string{cfg.File, filepath.Dir(cfg.File)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v (%v), want nothing for others", path, info.Mode(), err)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		cfg        embedded.Config
	}{
		{"a directory that cannot be made", "make directory of embedded store", embedded.Config{File: plain + "/s.db"}},
		{"a file that is no database", "open embedded store " + plain, embedded.Config{File: plain}},
		{"a newer schema", "schema 9, this program knows 1", embedded.Config{File: newer(t, dir)}},
		{"a socket that cannot be bound", "bind embedded store", embedded.Config{File: dir + "/s.db", Socket: dir + "/none/s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := embedded.New(tt.cfg).Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// newer makes a store whose layout this program does not know.
func newer(t *testing.T, dir string) string {
	t.Helper()
	cfg := embedded.Config{File: filepath.Join(dir, "newer.db")}
	_, stop := run(t, cfg)
	stop()
	db, err := bbolt.Open(cfg.File, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("store")).Put([]byte("schema"), []byte{0, 0, 0, 0, 0, 0, 0, 9})
	}); err != nil {
		t.Fatal(err)
	}
	return cfg.File
}

func TestAwayBeforeRun(t *testing.T) {
	s := embedded.New(embedded.Config{File: filepath.Join(t.TempDir(), "s.db")})
	if _, err := s.ID(t.Context()); !errors.Is(err, embedded.ErrAway) {
		t.Errorf("got %v, want ErrAway", err)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	cfg := embedded.Config{File: filepath.Join(t.TempDir(), "s.db")}
	s, stop := run(t, cfg)
	id, _ := s.ID(t.Context())
	for i := range 3 {
		if _, err := put(t.Context(), s.Client(), "f/a", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := index(t.Context(), s.Client(), "f/?recurse")
	stop()

	s, _ = run(t, cfg)
	after, err := index(t.Context(), s.Client(), "f/?recurse")
	now, _ := s.ID(t.Context())
	if err != nil || after != before || now != id || keys(t, s.Client(), "f/") != 1 {
		t.Errorf("index %d, id %s (%v), want %d and %s", after, now, err, before, id)
	}
	if _, err := put(t.Context(), s.Client(), "g", "1"); err != nil {
		t.Fatal(err)
	}
	if next, _ := index(t.Context(), s.Client(), "g"); next <= before {
		t.Errorf("next index %d, want above %d", next, before)
	}
}

func TestReapedTombstonesMoveNoIndexBack(t *testing.T) {
	s, _ := run(t, embedded.Config{File: filepath.Join(t.TempDir(), "s.db")})
	c := s.Client()
	var wg sync.WaitGroup
	put(t.Context(), c, "f/stays", "1")
	put(t.Context(), c, "f/goes", "1")
	del(t, c, "f/goes")
	last, _ := index(t.Context(), c, "f/?recurse")
	// More than the file keeps.
	for range 50 {
		wg.Go(func() { fill(t, c) })
	}
	wg.Wait()
	at, err := index(t.Context(), c, "f/?recurse")
	if err != nil || at < last {
		t.Errorf("index %d (%v) after %d", at, err, last)
	}
	if size := s.Tombstones(); size > 4096 {
		t.Errorf("%d tombstones, want 4096 at most", size)
	}
}

var unique struct {
	sync.Mutex
	n int
}

// fill makes and deletes a hundred keys of its own.
func fill(t *testing.T, c *http.Client) {
	unique.Lock()
	unique.n++
	folder := fmt.Sprintf("many/%d/", unique.n)
	unique.Unlock()
	for range 2 {
		var ops []string
		for i := range 60 {
			ops = append(ops, fmt.Sprintf(`{"KV":{"Verb":"set","Key":"%s%d-%d"}}`, folder, i, len(ops)))
		}
		req, _ := http.NewRequest("PUT", "http://store/v1/txn", strings.NewReader("["+strings.Join(ops, ",")+"]"))
		resp, err := c.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		del(t, c, folder+"?recurse")
		folder = folder[:len(folder)-1] + "x/"
	}
}

func del(t *testing.T, c *http.Client, key string) {
	t.Helper()
	req, _ := http.NewRequest("DELETE", "http://store/v1/kv/"+key, nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
}
