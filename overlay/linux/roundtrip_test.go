package linux

import (
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// What was put is listed as the equal value, what was deleted is not listed,
// and deleting or putting it twice is no error: for one object of each kind.
func TestRoundTrip(t *testing.T) {
	h := newHost(t)
	s := h.state(t, "one of them moved here")
	h.attachAfter(t, s, 6)
	seen := map[reflect.Type]bool{}
	for _, o := range h.list(t) {
		if kind := reflect.TypeOf(o); !seen[kind] {
			seen[kind] = true
			t.Run(kind.Name(), func(t *testing.T) { h.roundTrip(t, o) })
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d kinds of objects in the kernel, want all ten: %v", len(seen), seen)
	}
}

func (h *host) roundTrip(t *testing.T, o overlay.Object) {
	for range 2 {
		must(t, h.k.Put(t.Context(), o))
		if !slices.Contains(h.list(t), o) {
			t.Fatalf("put but not listed: %s", o)
		}
	}
	switch o.(type) {
	case overlay.Sysctl, overlay.Mount: // nobody takes them away
		return
	}
	for range 2 {
		must(t, h.k.Delete(t.Context(), o))
		if slices.Contains(h.list(t), o) {
			t.Fatalf("deleted but listed: %s", overlay.Command(o, true))
		}
	}
	restarted := overlay.New(h.k, "weft", slog.New(slog.DiscardHandler))
	must(t, restarted.Set(t.Context(), h.state(t, "one of them moved here")))
}

func (h *host) list(t testing.TB) []overlay.Object {
	t.Helper()
	have, err := h.k.List(t.Context())
	must(t, err)
	return have
}

// An entry that fails in the middle of a batch is named, and alone.
func TestBatchNamesTheFailedEntry(t *testing.T) {
	h := newHost(t)
	s := h.manyRemotes(2000)
	entries := entriesOf(s)
	s.Networks[0].Remotes = nil
	h.set(t, s)
	wrong := overlay.FDB{Dev: "v001000", MAC: overlay.MAC{0x0e, 9}, VTEP: addr6(1)} // the other family
	err := h.k.Put(t.Context(), slices.Insert(entries, 1234, overlay.Object(wrong))...)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 1 {
		t.Fatalf("error = %v", err)
	}
	failed, ok := joined.Unwrap()[0].(*overlay.ObjectError)
	if !ok || failed.Object != wrong {
		t.Errorf("error = %v", err)
	}
	if n := len(h.list(t)); n < len(entries) {
		t.Errorf("%d objects listed, want the other %d entries among them", n, len(entries))
	}
}

// FuzzParse: whatever a message holds, our reading of it neither panics nor
// hangs.
func FuzzParse(f *testing.F) {
	req := linkRequest(unix.RTM_NEWLINK, 1, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("eth0")))
	req.AddData(portInfo(newPort(overlay.BridgePort{Flood: true})...))
	f.Add(req.Serialize()[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, l := range []netlink.Link{&netlink.Bridge{}, &netlink.Vxlan{}} {
			d := device{Link: l}
			d.read(body)
			conf(d.conf4, gateway4[3].at)
		}
		parseNeighbour(body)
		s := &space{index: &indexTable{}}
		s.watched.Store(&[]netip.Prefix{netip.MustParsePrefix("10.64.0.0/24"), netip.MustParsePrefix("2001:db8::/64")})
		s.addressConcerns(body)
		s.routeConcerns(body)
		neighbourTable(body)
		(&quiet{}).concerns(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWNETCONF}, Data: body})
		for _, flags := range []uint16{0, unix.NLM_F_ACK_TLVS} {
			_ = parseError(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Flags: flags}, Data: body})
		}
	})
}
