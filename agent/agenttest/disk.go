package agenttest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a small file system of a test's own, which it fills or makes read-only.
type Disk struct {
	Dir string
	t   testing.TB
}

// NewDisk mounts a file system of that many bytes at a directory, which is made. It is
// gone with the test.
func NewDisk(t testing.TB, dir, size string) *Disk {
	t.Helper()
	Need(t, "mount")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "-t", "tmpfs", "-o", "mode=0700,size="+size, "tmpfs", dir)
	t.Cleanup(func() {
		// A lab has unmounted what is in its directory.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &Disk{dir, t}
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "somebody-elses") }

// Fill leaves not a byte free.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); ; {
		if _, err := f.Write(page); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				d.t.Fatal(err)
			}
			return
		}
	}
}

// Free undoes Fill.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// ReadOnly takes no more writes from now on. The kernel refuses it while a file is open
// for writing.
func (d *Disk) ReadOnly() {
	d.t.Helper()
	must(d.t, "mount", "-o", "remount,ro", d.Dir)
}

// Writable undoes ReadOnly.
func (d *Disk) Writable() {
	d.t.Helper()
	must(d.t, "mount", "-o", "remount,rw", d.Dir)
}
