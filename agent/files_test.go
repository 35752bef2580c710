package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/discovery"
)

func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	d, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(dir); !errors.Is(err, errDataDirTaken) {
		t.Errorf("second agent: got %v, want %v", err, errDataDirTaken)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	d, err = openDataDir(dir)
	if err != nil {
		t.Errorf("after the first ended: %v", err)
	}
	_ = d.close()
}

func TestDataDirFiles(t *testing.T) {
	d, err := openDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	var got hostFile
	if err := d.read("host.json", &got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before it was written: got %v, want %v", err, os.ErrNotExist)
	}
	want := hostFile{Schema: schema, ID: discovery.HostID{9}, Incarnation: 3, Name: "host1"}
	if err := d.write("host.json", want); err != nil {
		t.Fatal(err)
	}
	if err := d.read("host.json", &got); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if fi, err := os.Stat(d.file("host.json")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", fi.Mode(), err)
	}
	if err := os.WriteFile(d.file("host.json"), []byte(`{"schema":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.read("host.json", &got); err == nil || !strings.Contains(err.Error(), "newer agent") {
		t.Errorf("a newer schema: got %v, want a refusal", err)
	}
}

func TestResolvConfIsKeptElsewhereAndRestored(t *testing.T) {
	dir := t.TempDir()
	f := resolvFiles{etc: filepath.Join(dir, "etc"), kept: filepath.Join(dir, "data", "resolv")}
	path := f.path("ns")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ours := []byte(resolvMark + "1\nnameserver 10.64.0.1\n")
	do(f.write("ns", ours))
	do(f.takeBack("ns"))
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing was there before, but the directory stays: %v", err)
	}
	do(os.MkdirAll(filepath.Dir(path), 0o755))
	do(os.WriteFile(path, []byte("nameserver 192.0.2.53\n"), 0o644))
	do(f.write("ns", ours))
	do(f.write("ns", ours)) // our own file is replaced, not kept
	// ip-netns(8) binds every file of the directory over one of /etc.
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
		t.Errorf("the namespace's directory holds %v (%v), want resolv.conf alone", all, err)
	}
	do(f.takeBack("ns"))
	if got, err := os.ReadFile(path); err != nil || string(got) != "nameserver 192.0.2.53\n" {
		t.Errorf("got %q, %v, want the user's file", got, err)
	}
	if _, err := os.Stat(f.kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy stays: %v", err)
	}
	do(f.takeBack("ns"))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's file was removed: %v", err)
	}
}
