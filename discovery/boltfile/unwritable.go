package boltfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// WriteError says that a file, or a directory, does not take what is to be written.
type WriteError struct {
	Path  string // of a directory with a slash at its end
	Err   error  // the kernel's
	Mount string // where the file system is mounted, of one that is read-only
}

func (e *WriteError) Error() string { return fmt.Sprintf("%s cannot be written: %v", e.Path, e.Err) }

// Unwrap returns the kernel's error.
func (e *WriteError) Unwrap() error { return e.Err }

// Unwritable makes a WriteError of an error that is the file system's: it is full, over
// its quota, read-only, immutable or broken. It returns nil for any other.
func Unwritable(path string, err error) *WriteError {
	if errors.Is(err, unix.EROFS) {
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		return &WriteError{path, unix.EROFS, mountOf(path, string(mounts))}
	}
	for _, no := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EPERM} {
		if errors.Is(err, no) {
			return &WriteError{Path: path, Err: no}
		}
	}
	return nil
}

// mountOf finds the mount point of a path in the text of mountinfo (proc(5)): the
// deepest, and of two at one place the later one.
func mountOf(path, mountinfo string) (at string) {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		mount := octal.Replace(f[4])
		if below := strings.TrimSuffix(mount, "/") + "/"; strings.HasPrefix(path, below) && len(mount) >= len(at) {
			at = mount
		}
	}
	return at
}

// octal are the characters that mountinfo writes otherwise.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// DB is an open database file.
type DB struct {
	*bbolt.DB
	// ReadOnly is why the file cannot be written; nil: it can. Otherwise its records are
	// in memory, and what is written goes no further.
	ReadOnly *WriteError

	file *os.File // of which the records are, for its lock; nil: bbolt has it
}

// Close closes the file and gives up its lock.
func (d *DB) Close() error {
	if d.file != nil {
		defer d.file.Close()
	}
	return d.DB.Close()
}

// openInMemory copies the records of a file that cannot be written. One that is missing
// has none.
func openInMemory(path string, wait time.Duration, check Check, keep Keep, why *WriteError) (*DB, *Damage, error) {
	f, err := openLocked(path, os.O_RDONLY, 0, wait)
	if errors.Is(err, os.ErrNotExist) {
		db, err := inMemory(path, nil)
		return &DB{DB: db, ReadOnly: why}, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	db, damage, err := copyRecords(f, path, check, keep)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return &DB{db, why, f}, damage, nil
}

func copyRecords(f *os.File, path string, check Check, keep Keep) (*bbolt.DB, *Damage, error) {
	body, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	if len(body) == 0 {
		db, err := inMemory(path, nil)
		return db, nil, err
	}
	found, problems := check.read(body)
	if len(problems) == 0 {
		db, err := inMemory(path, body)
		return db, nil, err
	}
	kept, err := keep(found)
	if err != nil {
		return nil, nil, fmt.Errorf("it is damaged (%w): %w", problems[0], err)
	}
	db, err := inMemory(path, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := fill(db, kept); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, &Damage{File: path, Why: problems[0].Error(), Records: len(kept.Records)}, nil
}

// inMemory makes a database of pages that are whole, or an empty one. The path is what
// it is called in errors.
func inMemory(path string, pages []byte) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, OpenFile: func(path string, _ int, _ os.FileMode) (*os.File, error) {
		fd, err := unix.MemfdCreate("weft", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memfd_create: %w", err)
		}
		f := os.NewFile(uintptr(fd), path)
		if _, err := f.WriteAt(pages, 0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}})
}
