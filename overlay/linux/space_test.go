package linux

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// The library would make a request on a closed handle in the namespace of the
// calling thread, the machine's own.
func TestClosedSpaceRefusesRequests(t *testing.T) {
	needRoot(t)
	s, err := openSpace("/run/netns/" + newNamespace(t))
	must(t, err)
	must(t, s.close())
	for name, request := range map[string]func() error{
		"a dump":            func() error { _, err := s.links(); return err },
		"a dump of ours":    func() error { _, err := s.devices(); return err },
		"a look-up":         func() error { _, err := s.link("lo"); return err },
		"a change":          func() error { return s.putAddress(overlay.Addr{Dev: "lo", Prefix: netipPrefix("192.0.2.7/32")}) },
		"a change of ours":  func() error { return s.change(func(r *requests) error { return r.deleteGroup(77) }) },
		"a subscription":    func() error { _, err := s.subscribe(unix.RTNLGRP_LINK); return err },
		"a socket of ours":  func() error { _, err := openRequests(s.ns); return err },
		"entries of a list": func() error { return errors.Join(entries{s}.apply([]overlay.Object{overlay.FDB{Dev: "lo"}}, false)...) },
	} {
		if err := request(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

// The library asks for the kernel's sentence on no socket of a handle.
func TestErrorsCarryTheKernelsSentence(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	taken := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "other", TxQLen: -1}, VxlanId: 0x1000, Port: 4799, SrcAddr: h.vtep.AsSlice()}
	for what, err := range map[string]error{
		"A VXLAN device with the specified VNI already exists": h.k.host.do(func(l *netlink.Handle) error { return l.LinkAdd(taken) }),
		"IPv6 is disabled on this device": errors.Join(entries{h.k.fabric}.batch(
			[]overlay.Object{overlay.Neigh{Dev: "v001000", Addr: addr6(1)}}, false)...),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("error = %v, want in it: %s", err, what)
		}
	}
}

// The library takes the sentence at the end of a dump for something else, and
// panics: no socket for dumps asks for one.
func TestRefusedDumpIsAnError(t *testing.T) {
	h := newHost(t)
	_, err := h.k.host.routes(unix.AF_INET, netlink.Route{}, 0)
	must(t, err)
	_, err = dump(h.k.host, func(l *netlink.Handle) ([]netlink.Route, error) {
		return l.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: 12345}, netlink.RT_FILTER_TABLE)
	})
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("a table that is not there: %v", err)
	}
	req := linkRequest(unix.RTM_GETLINK, 0, 0)
	req.AddData(&netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: 1 << 30})
	err = h.k.fabric.change(func(r *requests) error {
		must(t, unix.SetsockoptInt(r.dumps.Socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1))
		return r.each(req, unix.RTM_NEWLINK, func([]byte) {})
	})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("a request that makes no sense: %v", err)
	}
}
