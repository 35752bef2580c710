package boltfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// made is a database with branch pages, a bucket within its name, a value that
// overflows its page and free pages.
func made(t testing.TB) (path string, records int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "leases.db")
	db, damage, err := Open(path, time.Second, All)
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	put := func(bucket string, key, value []byte) {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			if _, err := b.NextSequence(); err != nil {
				return err
			}
			return b.Put(key, value)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	db.NoSync = true
	for i := range 300 {
		put("many", fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, 100))
	}
	put("few", []byte("one"), []byte("1"))
	put("large", []byte("view"), bytes.Repeat([]byte("x"), 10000))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, 302
}

// count reads every record by bbolt.
func count(t *testing.T, db *bbolt.DB) (n int) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { n++; return nil })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// usable writes into every bucket, and reads back.
func usable(t *testing.T, db *bbolt.DB) {
	t.Helper()
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"many", "few", "large", "new"} {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("later"), bytes.Repeat([]byte("y"), 5000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	count(t, db)
}

func TestWholeFileIsOpenedAsItIs(t *testing.T) {
	path, records := made(t)
	for range 2 {
		db, damage, err := Open(path, time.Second, None)
		if err != nil || damage != nil {
			t.Fatal(err, damage)
		}
		if n := count(t, db.DB); n != records {
			t.Errorf("%d records, want %d", n, records)
		}
		if _, _, err := Open(path, 20*time.Millisecond, None); err == nil || !strings.Contains(err.Error(), ErrLocked.Error()) {
			t.Errorf("opened twice: %v", err)
		}
		_ = db.Close()
	}
}

// Whatever became of a page, the file is opened, can be written, and the damaged
// one is kept beside it.
func TestDamagedFileIsPutAsideAndReplaced(t *testing.T) {
	path, records := made(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, body []byte) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.db")
			if err := os.WriteFile(path, body, 0o600); err != nil {
				t.Fatal(err)
			}
			db, damage, err := Open(path, time.Second, All)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			n := count(t, db.DB)
			if damage == nil && n < records && len(body) > 0 {
				t.Errorf("%d of %d records are lost without a word", records-n, records)
			}
			if damage != nil {
				if damage.Records < n || damage.Why == "" {
					t.Errorf("%+v, but %d records", damage, n)
				}
				if kept, err := os.ReadFile(damage.Aside); err != nil || !bytes.Equal(kept, body) {
					t.Errorf("%s is not the damaged file: %v", damage.Aside, err)
				}
			}
			usable(t, db.DB)
		})
	}
	const page = 4096
	for i := range len(whole) / page {
		for _, bit := range []int{1, 8 * 8, 8*10 + 1, 8*16 + 2, 8*24 + 1, 8 * 100, 8 * 2000, 8 * 4090} {
			body := bytes.Clone(whole)
			body[i*page+bit/8] ^= 1 << (bit % 8)
			check(fmt.Sprintf("page %d bit %d", i, bit), body)
		}
		body := bytes.Clone(whole)
		copy(body[i*page:], bytes.Repeat([]byte{0xff}, page))
		check(fmt.Sprintf("page %d of 0xff", i), body)
	}
	check("half", whole[:len(whole)/2])
	check("half a page", whole[:page/2])
	check("one byte", whole[:1])
	check("text", []byte("hello"))
	check("empty", nil)
}

func TestFewDamagedFilesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "view.db")
	for range 2 * keptAside {
		if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		db, damage, err := Open(path, time.Second, None)
		if err != nil || damage == nil {
			t.Fatal(damage, err)
		}
		_ = db.Close()
	}
	if all := Aside(path); len(all) != keptAside {
		t.Errorf("%d are kept: %q", len(all), all)
	}
}

// Reading ends for any file, and what is called whole, bbolt reads too.
func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "leases.db")
	if err := write(path, Contents{Records: []Record{{"a", []byte("key"), []byte("value")}, {"b", []byte("key"), []byte("value")}}}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	whole = whole[:5*4096]
	f.Add(whole, uint(9000), byte(3))
	f.Add(whole[:len(whole)/2], uint(0), byte(0))
	f.Add([]byte("hello"), uint(0), byte(0))
	f.Fuzz(func(t *testing.T, body []byte, at uint, x byte) {
		body = bytes.Clone(body)
		if len(body) > 0 {
			body[at%uint(len(body))] ^= x
		}
		found, problems := read(body)
		if len(problems) > 0 || len(body) == 0 {
			return
		}
		path := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if n := count(t, db); n != len(found.Records) {
			t.Errorf("%d records, want %d", len(found.Records), n)
		}
	})
}
