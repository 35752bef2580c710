package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

// Frames are seen where they leave a host and where they come to one, also when a packet
// filter drops them there; and not where one dropped them before they left.
func TestTapSeesWhatTheFilterDrops(t *testing.T) {
	a, b, _, macB := probing(t)
	socket, err := a.k.OpenProbe(1)
	must(t, err)
	defer socket.Close()
	seen := func(h *host, outgoing bool) bool {
		t.Helper()
		tap, err := h.k.OpenTap(false, 4799, 1)
		must(t, err)
		defer tap.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				_ = socket.Send(macB, []byte("frame"))
				time.Sleep(20 * time.Millisecond)
			}
		}()
		buf := make([]byte, 100)
		n, out, err := tap.Receive(ctx, buf)
		if errors.Is(err, context.DeadlineExceeded) {
			return false
		}
		must(t, err)
		if out != outgoing || n != 8+14+5 || string(buf[22:n]) != "frame" {
			t.Errorf("outgoing %t, %d bytes: %q", out, n, buf[:n])
		}
		return true
	}
	if !seen(a, true) || !seen(b, false) {
		t.Error("a frame that passes is not seen at both")
	}
	sh(t, "ip netns exec %s nft 'table netdev wall { chain in { type filter hook ingress device eth0 priority 0; udp dport 4799 drop; }; }'", b.ns)
	if !seen(b, false) {
		t.Error("a frame that the receiver drops is not seen")
	}
	sh(t, "ip netns exec %s nft 'table inet wall { chain out { type filter hook output priority 0; udp dport 4799 drop; }; }'", a.ns)
	if seen(a, true) || seen(b, false) {
		t.Error("a frame that the sender drops is seen")
	}
}

func TestTapFilter(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		vm, err := bpf.NewVM(tapFilter(v6, 4799, 1))
		must(t, err)
		packet := make([]byte, 120)
		header := ipv4Size
		packet[0], packet[9] = 0x45, 17
		if v6 {
			header = ipv6Size
			packet[0], packet[6] = 0x65, 17
		}
		binary.BigEndian.PutUint16(packet[header+2:], 4799)
		packet[header+udpSize], packet[header+udpSize+6] = 8, 1
		takes := func() bool {
			n, err := vm.Run(packet)
			must(t, err)
			return n > 0
		}
		if !takes() {
			t.Errorf("v6 %t: a packet of the tunnel is not taken", v6)
		}
		for at, what := range map[int]string{0: "another version", header + 3: "another port", header + udpSize + 5: "another VNI"} {
			packet[at] ^= 0x30
			if takes() {
				t.Errorf("v6 %t: %s is taken", v6, what)
			}
			packet[at] ^= 0x30
		}
	}
}
