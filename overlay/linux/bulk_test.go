package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// probing are two hosts with the probe network.
func probing(t *testing.T) (a, b *host, macA, macB overlay.MAC) {
	t.Helper()
	a, b = pair(t)
	macA, macB = overlaytest.MAC(251), overlaytest.MAC(252)
	for _, side := range []struct {
		here, there *host
		own, other  overlay.MAC
	}{{a, b, macA, macB}, {b, a, macB, macA}} {
		s := side.here.blueOn(false)
		n := overlaytest.Probe(side.here.vtep)
		n.GatewayMAC = side.own
		n.Remotes = []overlay.Remote{{MAC: side.other, VTEP: side.there.vtep}}
		s.Networks = append(s.Networks, n)
		side.here.set(t, s)
	}
	return a, b, macA, macB
}

// One packet of 60 kB gets to the other host whole, whoever cuts it: the device, or the
// kernel before it. It comes as one again (GRO).
func TestBulk(t *testing.T) {
	a, b, macA, macB := probing(t)
	from, err := a.k.OpenBulk(1)
	must(t, err)
	defer from.Close()
	to, err := b.k.OpenBulk(1)
	must(t, err)
	defer to.Close()
	const size = 60_000
	number := uint32(0)
	arrives := func() (bytes, packets int) {
		t.Helper()
		number++
		must(t, from.Send(macB, number, size, 1450))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		buf := make([]byte, 1<<17)
		for bytes < size {
			sender, got, n, err := to.Receive(ctx, buf)
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			must(t, err)
			if sender != macA || got != number {
				t.Fatalf("from %s, number %d, want %s, %d", sender, got, macA, number)
			}
			bytes, packets = bytes+n, packets+1
		}
		return bytes, packets
	}
	if bytes, packets := arrives(); bytes != size {
		t.Errorf("%d bytes in %d packets, want %d", bytes, packets, size)
	} else {
		t.Logf("%d packets", packets)
	}
	sh(t, "ip -n %s link set eth0 gso_max_segs 1", a.ns)
	if bytes, packets := arrives(); bytes != size {
		t.Errorf("cut by the kernel: %d bytes in %d packets, want %d", bytes, packets, size)
	} else {
		t.Logf("cut by the kernel: %d packets", packets)
	}
}

func TestBulkThatIsDamagedCarriesNothing(t *testing.T) {
	b := make([]byte, vnetSize+bulkHeaders+100)
	p := b[vnetSize+ethernetSize:]
	writeBulk(p, 7)
	tcp := p[ipv4Size:]
	binary.BigEndian.PutUint16(tcp[16:], ^sum(0, tcp)) // goes on from the pseudo header's
	if _, number, size, ok := readBulk(b); !ok || number != 7 || size != 100 {
		t.Errorf("whole: %d, %d bytes, %t", number, size, ok)
	}
	tcp[50]++
	if _, _, size, ok := readBulk(b); !ok || size != 0 {
		t.Errorf("damaged: %d bytes, %t", size, ok)
	}
	b[0] = vnetNeedsChecksum // it never was on a wire
	if _, _, size, ok := readBulk(b); !ok || size != 100 {
		t.Errorf("without a sum: %d bytes, %t", size, ok)
	}
	for n := range len(b) {
		if _, _, _, ok := readBulk(b[:n]); ok {
			t.Errorf("%d bytes of %d were read", n, len(b))
		}
	}
}
