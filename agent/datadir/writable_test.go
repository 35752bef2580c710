package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/agenttest"
)

// A directory that takes no files says so with the reason, and when it takes them again.
// It is served read-only, under its lock.
func TestDirectoryThatTakesNoWrites(t *testing.T) {
	disk := agenttest.NewDisk(t, filepath.Join(t.TempDir(), "disk"), "1m")
	d, err := Open(disk.Dir)
	if err != nil {
		t.Fatal(err)
	}
	await := func(want error) {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got := d.Writable()
			if want == nil && got == nil || got != nil && errors.Is(got, want) && strings.HasPrefix(got.Error(), disk.Dir) {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	await(nil)
	disk.Fill()
	await(unix.ENOSPC)
	if free, _ := d.Free(); free != 0 {
		t.Errorf("%d bytes are free", free)
	}
	if err := d.Write(HostFile, Host{}); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), HostFile+" cannot be written") {
		t.Errorf("write: %v", err)
	}
	disk.Free()
	await(nil)
	if err := d.Write(HostFile, Host{Name: "host1"}); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	disk.ReadOnly() // which the kernel refuses while the lock is open for writing
	if d, err = Open(disk.Dir); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	await(unix.EROFS)
	if _, err := Open(disk.Dir); !errors.Is(err, ErrTaken) {
		t.Errorf("a second agent: %v, want %v", err, ErrTaken)
	}
	disk.Writable()
	await(nil)
	if left, _ := os.ReadDir(disk.Dir); len(left) != 3 { // lock, host.json and its copy
		t.Errorf("left in the directory: %v", left)
	}
}
