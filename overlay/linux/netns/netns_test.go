package netns

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is no network namespace is refused without being opened: a FIFO would wait
// for its other end for ever.
func TestOnlyNetworkNamespacesAreOpened(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(unix.Mkfifo(file("fifo"), 0o600), os.WriteFile(file("plain"), nil, 0o600), os.Symlink("fifo", file("link"))); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", file("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		file("fifo"): "a FIFO", file("link"): "a FIFO", file("plain"): "a file", file("socket"): "a socket", dir: "a directory",
		"/dev/null": "a device", "/dev/tty": "a device", "/proc/self/ns/uts": "a namespace of another kind", "/proc/self/ns/mnt": "a namespace of another kind",
	} {
		done := make(chan error, 1)
		go func() {
			f, err := Open(path)
			if err == nil {
				f.Close()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if e, ok := errors.AsType[*NotNetnsError](err); !ok || e.What != want || !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: %v, want %s", path, err, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: hangs", path)
		}
	}
	if _, err := Open(file("absent")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		t.Errorf("absent: %v", err)
	}
	for _, path := range []string{"", "/proc/self/ns/net", "/proc/thread-self/ns/net"} {
		f, err := Open(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		f.Close()
	}
}
