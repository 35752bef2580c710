package hostport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestHolderOfAPortIsNamed(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := uint16(c.LocalAddr().(*net.UDPAddr).Port)
	err = Held(syscall.EADDRINUSE, "for the tunnel", port, "tcp", "udp")
	for _, part := range []string{fmt.Sprintf("port %d/udp, for the tunnel, is held by ", port), fmt.Sprintf("(pid %d)", os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	c.Close()
	err = Held(syscall.EADDRINUSE, "for gossip", port, "tcp", "udp")
	if want := fmt.Sprintf("port %d/tcp or udp, for gossip, is taken: address already in use", port); err.Error() != want || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %q, want %q", err, want)
	}
	if Held(nil, "for gossip", port, "tcp") != nil {
		t.Error("an error of nothing")
	}
}
