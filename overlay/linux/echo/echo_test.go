package echo_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/echo"
)

func TestWhoAnswersIsKnown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	path, room, err := echo.Make()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nsenter", "--net="+path, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	at := netip.MustParseAddrPort("127.0.0.1:7")
	s, err := echo.Serve(path, at, "web")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, proto := range []string{"tcp", "udp"} {
		for _, size := range []int{0, 1, 30000} {
			if who, err := echo.Speak(ctx, path, overlay.Speech{Proto: proto, Dst: at, Size: size}); who != "web" || err != nil {
				t.Errorf("%s, %d bytes: %q, %v", proto, size, who, err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := echo.Speak(ctx, path, overlay.Speech{Proto: "tcp", Dst: at}); fmt.Sprint(err) != "refused" {
		t.Errorf("after the end: %v", err)
	}
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := echo.Resolve(short, path, at, "web", false); err == nil {
		t.Error("a server that is not there answers")
	}
	if err := room.Close(); err != nil {
		t.Error(err)
	}
	if _, err := echo.Serve(path, at, "web"); err == nil {
		t.Error("the namespace outlives its room")
	}
}
