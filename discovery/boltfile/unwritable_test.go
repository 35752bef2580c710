package boltfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/agenttest"
)

// Where nothing can be written, what is in a file can be read all the same, and the file
// is neither touched nor taken by another process.
func TestFileThatCannotBeWrittenIsReadInMemory(t *testing.T) {
	disk := agenttest.NewDisk(t, filepath.Join(t.TempDir(), "disk"), "8m")
	whole, records := made(t)
	body, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		body    []byte // nil: there is no file
		spoil   func()
		why     error
		damaged bool
		records int
	}{
		"read-only":              {body, disk.ReadOnly, unix.EROFS, false, records},
		"damaged and read-only":  {garbledPage(body), disk.ReadOnly, unix.EROFS, true, -1},
		"missing on a read-only": {nil, disk.ReadOnly, unix.EROFS, false, 0},
		"empty on a read-only":   {[]byte{}, disk.ReadOnly, unix.EROFS, false, 0},
		"damaged on a full one":  {garbledPage(body), disk.Fill, unix.ENOSPC, true, -1},
		"missing on a full one":  {nil, disk.Fill, unix.ENOSPC, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(disk.Dir, "leases.db")
			_ = os.Remove(path)
			if tt.body != nil {
				if err := os.WriteFile(path, tt.body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tt.spoil()
			defer func() {
				disk.Writable()
				_ = os.Remove(disk.Dir + "/somebody-elses")
			}()
			db, damage, err := Open(path, time.Second, All)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if tt.why == unix.EROFS && db.ReadOnly.Mount != disk.Dir {
				t.Errorf("mounted at %q, want %s", db.ReadOnly.Mount, disk.Dir)
			}
			if db.ReadOnly == nil || !errors.Is(db.ReadOnly, tt.why) || (damage != nil) != tt.damaged || damage != nil && damage.Aside != "" {
				t.Errorf("read-only because of %v, damage %+v", db.ReadOnly, damage)
			}
			if n := count(t, db.DB); n != tt.records && (tt.records >= 0 || n == 0) {
				t.Errorf("%d records, want %d", n, tt.records)
			}
			usable(t, db.DB) // in memory
			now, err := os.ReadFile(path)
			if tt.body != nil && (err != nil || !bytes.Equal(now, tt.body)) {
				t.Errorf("the file was changed: %v", err)
			}
			if tt.body != nil {
				if _, _, err := Open(path, 50*time.Millisecond, All); !errors.Is(err, ErrLocked) {
					t.Errorf("opened twice: %v", err)
				}
			}
		})
	}
}

// garbledPage damages a leaf, of which the others do not depend.
func garbledPage(body []byte) []byte {
	out := bytes.Clone(body)
	copy(out[len(out)/2:], bytes.Repeat([]byte{0xff}, 64))
	return out
}

// bbolt goes on after a write that a full disk did not take.
func TestFullDiskLosesNothingThatWasCommitted(t *testing.T) {
	disk := agenttest.NewDisk(t, filepath.Join(t.TempDir(), "disk"), "1m")
	path := filepath.Join(disk.Dir, "leases.db")
	put := func(db *DB, key string) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("many"))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), bytes.Repeat([]byte("x"), 20_000))
		})
	}
	db, _, err := Open(path, time.Second, All)
	if err == nil {
		err = put(db, "before")
	}
	if err != nil {
		t.Fatal(err)
	}
	disk.Fill()
	for range 3 {
		if err := put(db, "refused"); Unwritable(path, err) == nil {
			t.Fatalf("on a full disk: %v, want %v", err, unix.ENOSPC)
		}
	}
	disk.Free()
	if err := errors.Join(put(db, "after"), db.Close()); err != nil {
		t.Fatal(err)
	}
	db, damage, err := Open(path, time.Second, All)
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	defer db.Close()
	if n := count(t, db.DB); n != 2 {
		t.Errorf("%d records, want before and after", n)
	}
}

func TestMountOfAPath(t *testing.T) {
	const mountinfo = `23 28 0:21 / / rw - ext4 /dev/vda rw
24 23 0:22 / /var rw - ext4 /dev/vdb rw
25 24 0:23 / /var/lib/my\040disk rw - tmpfs tmpfs rw
`
	for path, want := range map[string]string{
		"/etc/x": "/", "/var/": "/var", "/various/x": "/", "/var/lib/weft/leases.db": "/var", "/var/lib/my disk/leases.db": "/var/lib/my disk",
	} {
		if got := mountOf(path, mountinfo); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
