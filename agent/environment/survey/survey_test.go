package survey

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func TestWhatThisMachineHas(t *testing.T) {
	u := Uplink(loopback)
	if u.Dev != "lo" || u.MTU < 1500 || u.Forwarding == "" || u.RPFilter == "" {
		t.Errorf("lo: %+v", u)
	}
	if u := Uplink(netip.MustParseAddr("203.0.113.77")); u.Dev != "" {
		t.Errorf("an address that nobody has: %+v", u)
	}
	if w := Ways(map[string]netip.Addr{"self": loopback}, 4798); len(w) != 1 || w[0].Dev != "lo" || w[0].Err != nil {
		t.Errorf("%+v", w)
	}
	if c := Conntrack(); !c.None && (c.Err != nil || c.Most == 0) {
		t.Errorf("%+v", c)
	}
	if s := Space("it", t.TempDir(), 1, 1); s.Err != nil || s.Free == 0 || s.Files == 0 {
		t.Errorf("%+v", s)
	}
	if s := Space("it", "/nowhere/at/all", 1, 1); s.Err == nil {
		t.Errorf("%+v", s)
	}
	p := Programs(t.Context(), [][2]string{{"sh-that-is-not", "nothing"}, {"ls", "lists"}})
	if p[0].Err == nil || p[1].Err != nil || !strings.HasPrefix(p[1].Version, "ls ") {
		t.Errorf("%+v", p)
	}
}

// The names of offloads are the kernel's: where ethtool(8) is there, it says the same.
func TestFeaturesHaveNames(t *testing.T) {
	u, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	driver, on := offloads(u.Name)
	for _, name := range on {
		if !slices.Contains(tunnelOffloads, name) {
			t.Errorf("%q of driver %q", name, driver)
		}
	}
}

// dnsServer answers every question with a code; a negative one: not at all. Before its
// answer comes one of somebody who guesses.
func dnsServer(t *testing.T, rcode int) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if rcode < 0 {
				continue
			}
			r := slices.Clone(buf[:n])
			r[2], r[3] = 0x81, 0x80|byte(rcode)
			guess := slices.Clone(r)
			guess[0]++
			guess[3] = 0x85
			_, _ = c.WriteToUDPAddrPort(guess, from)
			_, _ = c.WriteToUDPAddrPort(r, from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestResolvers(t *testing.T) {
	closed := func() netip.AddrPort {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := Resolvers(ctx, []netip.AddrPort{dnsServer(t, 0), dnsServer(t, 5), dnsServer(t, 2), dnsServer(t, -1), closed})
	for i, want := range []string{"", "REFUSED", "SERVFAIL", "no answer within 1s", "refused"} {
		if err := got[i].Err; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", i, err, want)
		}
	}
}

func TestHostResolvers(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("# nameserver 192.0.2.1\nsearch a\nnameserver 192.0.2.2\nnameserver x\nnameserver\nnameserver 2001:db8::1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := HostResolvers(conf)
	if len(got) != 2 || got[0].String() != "192.0.2.2:53" || got[1].String() != "[2001:db8::1]:53" {
		t.Errorf("%v", got)
	}
	if got := HostResolvers(conf + ".not"); got != nil {
		t.Errorf("%v", got)
	}
}
