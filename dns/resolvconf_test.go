package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestResolversOfTheHost(t *testing.T) {
	for _, tt := range []struct{ name, conf, stub, want string }{
		{"plain", "# a comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions edns0\n", "", "192.0.2.53:53 [2001:db8::53]:53"},
		{"at most three", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", "", "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53"},
		{"link-local", "nameserver fe80::1%lo\n", "", "[fe80::1%lo]:53"},
		{"lines that make no sense", "nameserver\nnameserver x\nnameserver 192.0.2.1 # first\nname", "", "192.0.2.1:53"},
		{"another loopback server", "nameserver 127.0.0.1\n", "nameserver 192.0.2.9\n", "127.0.0.1:53"},
		{"systemd-resolved's stub", "nameserver 127.0.0.53\noptions edns0 trust-ad\n", "nameserver 192.0.2.9\n", "192.0.2.9:53"},
		{"the stub and another", "nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "nameserver 192.0.2.9\n", "127.0.0.53:53 192.0.2.1:53"},
		{"the stub alone", "nameserver 127.0.0.53\n", "", "127.0.0.53:53"},
		{"empty", "", "nameserver 192.0.2.9\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newResolvers(Config{ResolvConf: filepath.Join(dir, "resolv.conf")})
			r.stub = filepath.Join(dir, "stub.conf")
			writeFile(t, r.conf, tt.conf)
			if tt.stub != "" {
				writeFile(t, r.stub, tt.stub)
			}
			if got := upstreams(r); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func upstreams(r *resolvers) string {
	var list []string
	for _, u := range r.current() {
		list = append(list, u.addr.String())
	}
	return strings.Join(list, " ")
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestResolversFollowTheFile(t *testing.T) {
	r := newResolvers(Config{ResolvConf: filepath.Join(t.TempDir(), "resolv.conf")})
	step := func(what, want string) {
		t.Helper()
		r.look = time.Time{} // a second has passed
		if got := upstreams(r); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	step("no file", "")
	if r.err == nil {
		t.Error("a missing file is no error")
	}
	writeFile(t, r.conf, "nameserver 192.0.2.1\n")
	step("written", "192.0.2.1:53")
	writeFile(t, r.conf, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
	step("written again", "192.0.2.1:53 192.0.2.2:53")
	if err := os.Remove(r.conf); err != nil {
		t.Fatal(err)
	}
	step("gone for a moment", "192.0.2.1:53 192.0.2.2:53")
	writeFile(t, r.conf, "nameserver 192.0.2.3\n")
	step("back", "192.0.2.3:53")
}

func TestReadResolvConf(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       ResolvConf
	}{
		{"servers and search list", "; a comment\nsearch corp.test example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n",
			ResolvConf{addrs("192.0.2.53", "2001:db8::53"), []string{"corp.test", "example.com"}}},
		{"all servers, and not the first three", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
			ResolvConf{Servers: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")}},
		{"a link-local server keeps its zone", "nameserver fe80::1%lo\n", ResolvConf{Servers: addrs("fe80::1%lo")}},
		{"IPv4 in IPv6 form", "nameserver ::ffff:192.0.2.1\n", ResolvConf{Servers: addrs("192.0.2.1")}},
		{"the last of search and domain", "search corp.test\nsearch example.com example.net\n", ResolvConf{Search: []string{"example.com", "example.net"}}},
		{"domain is a search list of one", "search corp.test\ndomain example.com\n", ResolvConf{Search: []string{"example.com"}}},
		{"one server on a line", "nameserver 192.0.2.1 192.0.2.2\n", ResolvConf{Servers: addrs("192.0.2.1")}},
		{"nothing", "", ResolvConf{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "resolv.conf")
			writeFile(t, file, tt.text)
			got, err := ReadResolvConf(file)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
	if got, err := ReadResolvConf(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) || len(got.Servers)+len(got.Search) > 0 {
		t.Errorf("no file: %+v, %v", got, err)
	}
}

// Whatever the host's file holds, what is taken of it is addresses and domains that
// can stand in a line of another such file, and says the same there.
func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("# a comment\nsearch corp.test a.test.\nnameserver 192.0.2.53\nnameserver fe80::1%lo\ndomain b.test\n"))
	f.Add([]byte("search . a..b \x1b[2J x\\y\nnameserver\noptions ndots:99999999999999999999"))
	f.Add([]byte("nameserver ::ffff:192.0.2.53 # first\r\nsearch\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseResolvConf(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, a := range c.Servers {
			if !a.IsValid() || a.Is4In6() {
				t.Fatalf("server %v", a)
			}
			fmt.Fprintf(&again, "nameserver %s\n", a)
		}
		fmt.Fprintf(&again, "search %s\n", strings.Join(c.Search, " "))
		if strings.Count(again.String(), "\n") != len(c.Servers)+1 {
			t.Fatalf("a line was broken: %q", again.String())
		}
		same, err := parseResolvConf([]byte(again.String()))
		if err != nil || fmt.Sprint(same) != fmt.Sprint(c) {
			t.Fatalf("%q gives %v, written and read again %v (%v)", text, c, same, err)
		}
	})
}
