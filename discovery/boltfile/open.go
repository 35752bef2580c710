// Package boltfile opens the database files of bbolt, which maps a file into memory
// and trusts what it finds there: a page that is not whole ends the process. Here
// every page is read first, as bytes. What is not whole is put aside, and its readable
// records go into a new file. What the records mean is not this package's business.
package boltfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Damage is what was wrong with a file that was put aside.
type Damage struct {
	File    string // that is new now
	Aside   string // where the damaged one is; empty: in its place, which cannot be written
	Why     string // the first of what is wrong, one clause
	Records int    // that the new file has of it
}

// Keep decides what of a damaged file goes into the new one. With an error the file
// stays as it is, and is not opened.
type Keep func(Contents) (Contents, error)

// Check says what of a file's records makes no sense although its pages are whole: the
// file is damaged. Nil: each record says by itself whether it is whole.
type Check func(Contents) error

// All keeps every record that could be read.
func All(c Contents) (Contents, error) { return c, nil }

// None keeps nothing: the file begins anew.
func None(Contents) (Contents, error) { return Contents{}, nil }

// ErrForeign: nothing in the file says that it is a database.
var ErrForeign = errors.New("it is no database")

// keptAside is how many damaged files of one name are kept.
const keptAside = 3

// ErrLocked: another process has the file open.
var ErrLocked = bolterrors.ErrTimeout

// Open opens a database file, which is made when it is missing. A damaged one is put
// aside (renamed to NAME.damaged-TIME) and replaced by a new one, with what keep leaves
// of its records. Where the file system takes no writes the records are copied into
// memory. wait is how long another process may have the file's lock.
func Open(path string, wait time.Duration, keep Keep) (*DB, *Damage, error) {
	return OpenChecked(path, wait, nil, keep)
}

// OpenChecked is Open for a file whose records are checked as a whole.
func OpenChecked(path string, wait time.Duration, check Check, keep Keep) (*DB, *Damage, error) {
	var damage *Damage
	for {
		db, bad, err := open(path, wait, check)
		if bad == nil && err == nil {
			return &DB{DB: db}, damage, nil
		}
		if bad != nil {
			damage, err = bad.replace(path, keep)
			_ = bad.file.Close() // and with it the lock
			if err == nil {
				continue
			}
			err = fmt.Errorf("it is damaged (%w): %w", bad.problems[0], err)
		}
		if why := Unwritable(path, err); why != nil {
			var mem *DB
			if mem, damage, err = openInMemory(path, wait, check, keep, why); err == nil {
				return mem, damage, nil
			}
		}
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
}

// damaged is a file that is not whole, still locked.
type damaged struct {
	file     *os.File
	found    Contents
	problems []error
}

// open opens a file that is whole. Its pages are read with the lock held and before
// bbolt maps them: bbolt takes the lock of the file that it is handed once more.
func open(path string, wait time.Duration, check Check) (*bbolt.DB, *damaged, error) {
	var bad *damaged
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: wait, OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := openLocked(path, flag, mode, wait)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if len(body) == 0 {
			return f, nil
		}
		found, problems := check.read(body)
		if len(problems) == 0 {
			return f, nil
		}
		bad = &damaged{f, found, problems}
		return nil, problems[0]
	}})
	return db, bad, err
}

// read reads the pages of a file, and checks the records of one that is whole.
func (c Check) read(body []byte) (Contents, []error) {
	found, problems := read(body)
	if len(problems) > 0 || c == nil {
		return found, problems
	}
	if err := c(found); err != nil {
		problems = append(problems, err)
	}
	return found, problems
}

// openLocked opens a file and takes its lock. The file may be replaced while the
// lock is waited for: then the new one is opened.
func openLocked(path string, flag int, mode os.FileMode, wait time.Duration) (*os.File, error) {
	late := time.Now().Add(wait)
	for {
		f, err := os.OpenFile(path, flag, mode)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return f, nil
		}
		_ = f.Close()
		switch {
		case err != nil && !errors.Is(err, unix.EWOULDBLOCK):
			return nil, err
		case time.Now().After(late):
			return nil, ErrLocked
		}
		time.Sleep(min(wait, 10*time.Millisecond))
	}
}

func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// replace puts a new file with what keep leaves in the place of the damaged one. At
// no time is there none.
func (d *damaged) replace(path string, keep Keep) (*Damage, error) {
	kept, err := keep(d.found)
	if err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := write(fresh, kept); err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	aside := path + asidePrefix + time.Now().UTC().Format("20060102T150405.000000000")
	if err := errors.Join(os.Link(path, aside), os.Rename(fresh, path), syncDir(path)); err != nil {
		return nil, err
	}
	prune(path)
	return &Damage{File: path, Aside: aside, Why: d.problems[0].Error(), Records: len(kept.Records)}, nil
}

const asidePrefix = ".damaged-"

// write makes a file of records.
func write(path string, c Contents) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(fill(db, c), db.Close())
}

// fill writes records into an empty database.
func fill(db *bbolt.DB, c Contents) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for name, sequence := range c.Sequences {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			if err := b.SetSequence(sequence); err != nil {
				return err
			}
		}
		for _, r := range c.Records {
			b, err := tx.CreateBucketIfNotExists([]byte(r.Bucket))
			if err != nil {
				return err
			}
			if err := b.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prune removes the oldest of the damaged files.
func prune(path string) {
	all := Aside(path)
	for _, old := range all[:max(len(all)-keptAside, 0)] {
		_ = os.Remove(old)
	}
}

// Aside lists the damaged files that were put aside for a path, oldest first.
func Aside(path string) []string {
	all, err := filepath.Glob(path + asidePrefix + "*")
	if err != nil {
		return nil
	}
	slices.Sort(all)
	return all
}
