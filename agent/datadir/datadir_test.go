package datadir

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/weft-net/weft/discovery"
)

func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrTaken) {
		t.Errorf("second agent: got %v, want %v", err, ErrTaken)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Open(dir)
	if err != nil {
		t.Errorf("after the first ended: %v", err)
	}
	_ = d.Close()
}

func TestDataDirFiles(t *testing.T) {
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	var got Host
	if err := d.Read("host.json", &got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before it was written: got %v, want %v", err, os.ErrNotExist)
	}
	want := Host{Schema: Schema, ID: discovery.HostID{9}, Incarnation: 3, Name: "host1"}
	if err := d.Write("host.json", want); err != nil {
		t.Fatal(err)
	}
	if err := d.Read("host.json", &got); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if fi, err := os.Stat(d.File("host.json")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", fi.Mode(), err)
	}
	if err := os.WriteFile(d.File("host.json"), []byte(`{"schema":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Read("host.json", &got); err == nil || !strings.Contains(err.Error(), "newer agent") {
		t.Errorf("a newer schema: got %v, want a refusal", err)
	}
}
