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

// Whoever may rename a directory above puts another one in its place: the owner is named,
// for the data directory, the run directory and the embedded store, there or yet to be made.
func TestDirectoryBelowAnotherUsersIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	const other = 1234
	opens := map[string]func(path string) error{
		"data": func(path string) error {
			d, err := Open(path)
			if err == nil {
				_ = d.Close()
			}
			return err
		},
		"run":   OpenRunDir,
		"store": func(path string) error { return CheckStore(filepath.Join(path, "store.sock.db")) },
	}
	for name, tt := range map[string]struct {
		spoil func(top string) error // top/mid/dir is opened
		says  string                 // empty: it is not refused
	}{
		"root's own":  {func(string) error { return nil }, ""},
		"sticky":      {func(top string) error { return errors.Join(os.Chmod(top, 0o777|os.ModeSticky)) }, ""},
		"another's":   {func(top string) error { return os.Chown(top, other, -1) }, "uid 1234"},
		"open to all": {func(top string) error { return os.Chmod(filepath.Join(top, "mid"), 0o777) }, "0777"},
		"open to a group": {func(top string) error {
			mid := filepath.Join(top, "mid")
			return errors.Join(os.Chown(mid, -1, other), os.Chmod(mid, 0o775))
		}, "0775"},
		"below a link into another's": {func(top string) error {
			return errors.Join(os.MkdirAll(filepath.Join(top, "home", "mid"), 0o755), os.Chown(filepath.Join(top, "home"), other, -1),
				os.Remove(filepath.Join(top, "mid")), os.Symlink("home/mid", filepath.Join(top, "mid")))
		}, "uid 1234"},
		"below another's link": {func(top string) error {
			mid := filepath.Join(top, "mid")
			return errors.Join(os.Rename(mid, mid+".moved"), os.Symlink(mid+".moved", mid), os.Lchown(mid, other, -1))
		}, "uid 1234"},
	} {
		for what, open := range opens {
			t.Run(name+" "+what, func(t *testing.T) {
				top := filepath.Join(t.TempDir(), "top")
				dir := filepath.Join(top, "mid", "dir")
				if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), tt.spoil(top)); err != nil {
					t.Fatal(err)
				}
				for _, there := range []bool{false, true} {
					if there {
						if err := os.MkdirAll(dir, 0o700); err != nil {
							t.Fatal(err)
						}
					}
					err := open(dir)
					unsafe, ok := errors.AsType[*UnsafeError](err)
					if ok != (tt.says != "") || ok && (!strings.Contains(err.Error(), tt.says) || !errors.Is(err, os.ErrPermission)) {
						t.Fatalf("there: %v: got %v, want %q", there, err, tt.says)
					}
					if _, err := os.Stat(dir); !there && ok && !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s was made all the same", dir)
					}
					if there && ok {
						if out, err := exec.Command("sh", "-c", unsafe.Mend).CombinedOutput(); err != nil {
							t.Fatalf("%s: %v: %s", unsafe.Mend, err, out)
						}
						if err := open(dir); err != nil {
							t.Errorf("after %s: %v", unsafe.Mend, err)
						}
					}
				}
			})
		}
	}
	t.Run("the user who called sudo", func(t *testing.T) {
		top := t.TempDir()
		if err := os.Chown(top, other, -1); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SUDO_UID", "1234")
		if err := OpenRunDir(filepath.Join(top, "run")); err != nil {
			t.Error(err)
		}
	})
}

// The file of the embedded store is as trusted as the data directory.
func TestStoreOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	file := filepath.Join(t.TempDir(), "store.sock.db")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(file, 1234, -1)); err != nil {
		t.Fatal(err)
	}
	if err := CheckStore(file); err == nil || !strings.Contains(err.Error(), "uid 1234") {
		t.Errorf("another's: %v", err)
	}
	if err := errors.Join(os.Remove(file), os.Symlink("/dev/null", file)); err != nil {
		t.Fatal(err)
	}
	if err := CheckStore(file); err == nil || !strings.Contains(err.Error(), "is a link to /dev/null") {
		t.Errorf("a link: %v", err)
	}
}
