package table_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

var update = flag.Bool("update", false, "write testdata/wire.golden anew")

// TestBytesOnTheWireStay: hosts of a cluster are upgraded one after the other, so
// the bytes of every message, of a header and an endpoint inside them, and of a
// table on the disk are those that agents of before wrote.
func TestBytesOnTheWireStay(t *testing.T) {
	const file = "testdata/wire.golden"
	got := wireBytes(t)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes on the wire changed:\n got %s\nwant %s", got, want)
	}
}

// wireBytes writes a line for each thing that is encoded: its name and its bytes
// in hex.
func wireBytes(t *testing.T) []byte {
	var out bytes.Buffer
	line := func(name string, b []byte) { fmt.Fprintf(&out, "%s %s\n", name, hex.EncodeToString(b)) }

	h := fullHeader
	h.Addrs = nil // of a later release, which agents of before relay as they came
	h.Flags = discovery.FlagGone | discovery.FlagBackSoon
	h.Unknown = []byte{0xc8, 0x01, 7}
	full := fullEndpoint
	full.Unknown = []byte{0xc9, 0x01, 3, 'n', 'e', 'w'}
	bare := discovery.Endpoint{ID: discovery.EndpointID{9}, Network: discovery.NetworkID{2}, Runtime: "docker",
		IPv4: netip.MustParseAddr("::ffff:192.0.2.9"), Health: discovery.HealthStarting}

	for i, m := range samples() {
		if i != 3 { // its checksum is over the whole of fullHeader and fullEndpoint
			b := m.Append(nil)
			line(fmt.Sprintf("%d-%s", i, table.Kind(b[0]&0x7f)), b)
		}
	}
	x := exchange(t, 1, h)
	x.SetMember(start, hostID(2), netip.AddrPort{}, discovery.StatusAlive)
	line("digest", x.Digest())
	line("ack", x.Ack())
	x.Flush()
	x.Take()
	x.Announce([]discovery.Endpoint{full, bare}, nil)
	x.SetHeader(func(h *discovery.Header) { h.Flags = 0 })
	x.Announce([]discovery.Endpoint{endpoint(1, 1)}, []discovery.EndpointID{bare.ID})
	x.Flush()
	for i, p := range x.Take() {
		line(fmt.Sprintf("pushed-%d-%s", i, p.Kind), p.Body)
	}
	for i, have := range []table.Version{{}, {Inc: 1, Ver: 2}, {Inc: 1, Ver: 4}} {
		pull := table.Pull{From: hostID(2), Owners: []table.PullEntry{{Owner: table.ShortOf(hostID(1)), Have: have}}}
		if _, err := x.Receive(start, pull.Append(nil)); err != nil {
			t.Fatal(err)
		}
		for _, p := range x.Take() {
			line(fmt.Sprintf("pulled-%d-%s", i, p.Kind), p.Body)
		}
	}
	y := exchange(t, 2, header(2))
	converge(x, y)
	y.SetMember(start, hostID(3), netip.MustParseAddrPort("192.0.2.3:4798"), discovery.StatusDead)
	y.Forget([]discovery.HostID{hostID(4)})
	saved, err := y.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	line("saved", saved)
	z := exchange(t, 1, h)
	z.SetMember(start, hostID(2), netip.AddrPort{}, discovery.StatusAlive)
	z.Flush()
	z.Take()
	z.Announce([]discovery.Endpoint{published}, nil)
	z.Flush()
	for i, p := range z.Take() {
		line(fmt.Sprintf("published-%d-%s", i, p.Kind), p.Body)
	}
	return out.Bytes()
}
