package datadir

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What another user could change is refused with the owner and the command that mends
// it, which does.
func TestDirectoryOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	const other = 1234
	for name, tt := range map[string]struct {
		spoil func(dir string) error
		says  string
	}{
		"another's":              {func(dir string) error { return os.Chown(dir, other, -1) }, "uid 1234"},
		"open to the group":      {func(dir string) error { return os.Chmod(dir, 0o770) }, "0770"},
		"open to all":            {func(dir string) error { return os.Chmod(dir, 0o777) }, "0777"},
		"a link into another's":  {func(dir string) error { return moved(dir, func(to string) error { return os.Chown(to, other, -1) }) }, "uid 1234"},
		"another's link":         {func(dir string) error { return moved(dir, func(string) error { return os.Lchown(dir, other, -1) }) }, "uid 1234"},
		"another's token":        {func(dir string) error { return os.Chown(filepath.Join(dir, TokenFile), other, -1) }, TokenFile},
		"a cluster file for all": {func(dir string) error { return os.Chmod(filepath.Join(dir, ClusterFile), 0o666) }, ClusterFile},
		"a database that is a link": {func(dir string) error {
			file := filepath.Join(dir, LeasesDB)
			return errors.Join(os.Rename(file, dir+".away"), os.Symlink(dir+".away", file))
		}, LeasesDB},
		"a lock that is a link": {func(dir string) error {
			file := filepath.Join(dir, lockFile)
			return errors.Join(os.WriteFile(dir+".lock", nil, 0o600), os.Remove(file), os.Symlink(dir+".lock", file))
		}, lockFile},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			d, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{TokenFile, ClusterFile, LeasesDB} {
				if err := d.Write(file, Host{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(d.Close(), tt.spoil(dir)); err != nil {
				t.Fatal(err)
			}
			_, err = Open(dir)
			unsafe, ok := errors.AsType[*UnsafeError](err)
			if !ok || !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want a refusal that says %s", err, tt.says)
			}
			if out, err := exec.Command("sh", "-c", unsafe.Mend).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", unsafe.Mend, err, out)
			}
			d, err = Open(dir)
			if err != nil {
				t.Fatalf("after %s: %v", unsafe.Mend, err)
			}
			_ = d.Close()
		})
	}
}

// moved moves a directory, leaves a link to it in its place, and does something.
func moved(dir string, then func(to string) error) error {
	to := dir + ".moved"
	return errors.Join(os.Rename(dir, to), os.Symlink(to, dir), then(to))
}

// An administrator may keep the directory elsewhere.
func TestOwnLinkIsFollowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.Mkdir(dir, 0o700), moved(dir, func(string) error { return nil })); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	if err := OpenRunDir(dir); err != nil {
		t.Error(err)
	}
}
