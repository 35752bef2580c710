package linux

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// A client that never stops sending UDP reaches whoever has the port now: the
// first packet of its flow does not decide for ever.
func TestFlowFollowsItsPort(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	published := func(i byte) overlay.NFElement {
		return overlay.NFElement{Place: overlay.Host, Set: "pub4", Proto: 17, Port: 8080, ToAddr: overlaytest.Port(i).Addrs[0], ToPort: 80}
	}
	h.answers(t, h.attach(t, 6), "the first")
	h.answers(t, h.attach(t, 7), "the second")
	var client net.Conn
	inNetns(t, h.ns, func() (err error) {
		client, err = net.Dial("udp", netip.AddrPortFrom(h.vtep, 8080).String())
		return err
	})
	defer client.Close()
	ask := func(wait time.Duration) string {
		_, _ = client.Write([]byte("hello")) // refused: the answer to an earlier one
		must(t, client.SetReadDeadline(time.Now().Add(wait)))
		buf := make([]byte, 64)
		n, _ := client.Read(buf)
		return string(buf[:n])
	}
	for step, row := range []struct {
		change func()
		want   string
	}{
		{func() {}, ""},
		{func() { must(t, h.k.Put(t.Context(), published(6))) }, "the first"},
		{func() { must(t, h.k.Put(t.Context(), published(7))) }, "the second"},
		{func() { must(t, h.k.Delete(t.Context(), published(7))) }, ""},
		{func() { must(t, h.k.Put(t.Context(), published(6))) }, "the first"},
	} {
		row.change()
		wait := 5 * time.Second
		if row.want == "" {
			wait = 200 * time.Millisecond
		}
		if got := ask(wait); got != row.want {
			t.Fatalf("step %d: answered by %q, want %q\n%s", step, got, row.want, h.in(t, "nft list ruleset"))
		}
	}
}

// answers answers each datagram to port 80 of a namespace with a text.
func (h *host) answers(t *testing.T, ns, text string) {
	t.Helper()
	inNetns(t, ns, func() error {
		c, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(text), from)
			}
		}()
		return nil
	})
}

// inNetns runs f on a thread in a namespace: sockets that it opens stay there.
func inNetns(t *testing.T, name string, f func() error) {
	t.Helper()
	ns, err := os.Open("/run/netns/" + name)
	must(t, err)
	defer ns.Close()
	must(t, netns.Within(ns, f))
}
