package resolvers

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/discovery"
)

var addrDiff = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestResolversOfAllSources(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch corp.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changes := 0
	r := New(Config{ResolvConf: conf, Address: func() bool { return true }, Changed: func() { changes++ }})
	own := netip.MustParseAddr("198.51.100.53")
	r.Set("a container", []netip.Addr{own, netip.MustParseAddr("127.0.0.1"), {}})
	r.SetOtherAddrs(discovery.EndpointID{1}, []netip.Addr{netip.MustParseAddr("172.18.0.2")})
	a := r.State()
	want := append([]netip.Addr{}, dockerFallback[1], dockerFallback[0], netip.MustParseAddr("192.0.2.53"), own)
	if diff := cmp.Diff(want, a.Resolvers[:4], addrDiff); diff != "" {
		t.Errorf("resolvers (-want +got):\n%s", diff)
	}
	if !a.Address || !cmp.Equal(a.Search, []string{"corp.test"}) || len(a.OtherAddrs) != 1 {
		t.Errorf("got %+v", a)
	}
	if changes == 0 {
		t.Error("nobody was told")
	}
	changes = 0
	r.Set("a container", []netip.Addr{own})
	r.SetOtherAddrs(discovery.EndpointID{1}, []netip.Addr{netip.MustParseAddr("172.18.0.2")})
	r.Look()
	if changes > 0 {
		t.Error("told although nothing changed")
	}
	r.Set("a container", nil)
	r.SetOtherAddrs(discovery.EndpointID{1}, nil)
	if a := r.State(); len(a.Resolvers) != 5 || len(a.OtherAddrs) != 0 {
		t.Errorf("taken back: %+v", a)
	}
}

func TestResolvConfIsKeptElsewhereAndRestored(t *testing.T) {
	dir := t.TempDir()
	f := Files{etc: filepath.Join(dir, "etc"), kept: filepath.Join(dir, "data", "resolv")}
	path := f.path("ns")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ours := []byte(mark + "1\nnameserver 10.64.0.1\n")
	do(f.write("ns", ours))
	do(f.TakeBack("ns"))
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
	do(f.TakeBack("ns"))
	if got, err := os.ReadFile(path); err != nil || string(got) != "nameserver 192.0.2.53\n" {
		t.Errorf("got %q, %v, want the user's file", got, err)
	}
	if _, err := os.Stat(f.kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy stays: %v", err)
	}
	do(f.TakeBack("ns"))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's file was removed: %v", err)
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if got := Missing(file); got != file+" is missing" {
		t.Errorf("got %q", got)
	}
	if got := Missing(link); got != link+" is a link to "+file+", which is missing" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Missing(file) + Missing(link); got != "" {
		t.Errorf("got %q of what is there", got)
	}
}

// What stood in a namespace's directory comes back as it was: content, mode, owner and
// times, and a link as the link that it is, whether it leads anywhere or not.
func TestTheUsersFileComesBackAsItWas(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("nameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	for name, make := range map[string]func(path string) error{
		"a file of another owner": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("search corp.test\n"), 0o600), os.Chown(path, 1234, 4321), os.Chmod(path, 0o640), os.Chtimes(path, old, old))
		},
		"a link":                    func(path string) error { return errors.Join(os.Symlink(elsewhere, path), os.Lchown(path, 1234, 4321)) },
		"a link that leads nowhere": func(path string) error { return os.Symlink("/run/nowhere/resolv.conf", path) },
		"a link to a file of ours": func(path string) error {
			ours := filepath.Join(filepath.Dir(elsewhere), "ours")
			return errors.Join(os.WriteFile(ours, []byte(mark+"9\n"), 0o644), os.Symlink(ours, path))
		},
	} {
		for _, move := range []string{"on one file system", "on two"} {
			dir := t.TempDir()
			f := Files{etc: filepath.Join(dir, "etc"), kept: filepath.Join(dir, "kept")}
			if move == "on two" {
				f.kept = filepath.Join(shm(t), "kept")
			}
			path := f.path("ns")
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), make(path)); err != nil {
				t.Fatal(err)
			}
			before := described(t, path)
			for range 2 {
				if err := f.Put("ns", File{Endpoint: "1", Server: netip.MustParseAddr("10.64.0.1")}); err != nil {
					t.Fatal(err)
				}
			}
			if whose, err := ownerOf(path); whose != weft || err != nil {
				t.Errorf("%s, %s: the file is %v's, %v", name, move, whose, err)
			}
			if err := f.TakeBack("ns"); err != nil {
				t.Error(err)
			}
			if after := described(t, path); after != before {
				t.Errorf("%s, %s: came back as %s, was %s", name, move, after, before)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("%s, %s: beside it stand %v, %v", name, move, left, err)
			}
		}
	}
	if b, err := os.ReadFile(elsewhere); string(b) != "nameserver 192.0.2.53\n" {
		t.Errorf("what a link leads to holds %q, %v", b, err)
	}
}

// shm is a directory on another file system than the temporary ones.
func shm(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "weft-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func described(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if to, err := os.Readlink(path); err == nil {
		return fmt.Sprintf("%v %d:%d -> %s", info.Mode(), st.Uid, st.Gid, to)
	}
	b, err := os.ReadFile(path)
	return fmt.Sprintf("%v %d:%d %v %q %v", info.Mode(), st.Uid, st.Gid, info.ModTime(), b, err)
}

// A FIFO in the file's place is not waited at.
func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	f := Files{etc: dir, kept: filepath.Join(dir, "kept")}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "ns"), 0o755), syscall.Mkfifo(f.path("ns"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.write("ns", []byte(mark)); err == nil {
		t.Error("written over a FIFO")
	}
	if err := f.TakeBack("ns"); err != nil {
		t.Error(err)
	}
}

// The host's search list is followed, a domain line too; a file that is gone for a
// moment changes nothing.
func TestTheHostsSearchListIsFollowed(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	changes := 0
	r := New(Config{ResolvConf: conf, Changed: func() { changes++ }})
	for _, step := range []struct {
		text    string // empty: the file is removed
		want    string
		changed bool
	}{
		{"nameserver 192.0.2.53\ndomain corp.test\n", "[corp.test]", true},
		{"domain corp.test\nsearch a.test b.test\n", "[a.test b.test]", true},
		{"", "[a.test b.test]", false},
		{"search a.test b.test\ndomain corp.test\n", "[corp.test]", true},
		{"nameserver 192.0.2.53\n", "[]", true},
	} {
		if step.text == "" {
			_ = os.Remove(conf)
		} else if err := os.WriteFile(conf, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		changes = 0
		r.Look()
		if got := fmt.Sprint(r.Search()); got != step.want || !cmp.Equal(r.State().Search, r.Search(), cmpopts.EquateEmpty()) {
			t.Errorf("%q: search %s, want %s", step.text, got, step.want)
		}
		if step.changed != (changes > 0) {
			t.Errorf("%q: told %d times", step.text, changes)
		}
	}
}
