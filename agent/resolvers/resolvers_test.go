package resolvers

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

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
