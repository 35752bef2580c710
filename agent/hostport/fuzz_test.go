package hostport

import (
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

// What is taken names ports that exist, of an IPv4 address or of every one, each of the
// endpoint's once; what is not is misuse with a line to type.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"80", "8080:80", "127.0.0.1:8080-8082:80-82/udp", "[::1]:1:2", "8080-8082:80", "0.0.0.0::80", ":", "1-65535:1-65535", "65535-65536:80", "80-79", "0:0", "a:b:c/sctp", "80/tcp/udp", "+1:-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse([]string{text})
		if err != nil {
			if api.KindOf(err) != api.KindMisuse || len(all) > 0 {
				t.Errorf("%q: %v with %d ports", text, err, len(all))
			}
			return
		}
		if len(all) == 0 || len(all) > 65535 {
			t.Fatalf("%q is %d ports", text, len(all))
		}
		seen := map[uint16]bool{}
		for _, s := range all {
			if s.port == 0 || seen[s.port] || s.first > s.last || (s.first == 0) != (s.last == 0) ||
				s.proto != syscall.IPPROTO_TCP && s.proto != syscall.IPPROTO_UDP || s.addr.IsValid() && (!s.addr.Is4() || s.addr.IsUnspecified()) {
				t.Errorf("%q: %+v", text, s)
			}
			seen[s.port] = true
			if strings.ContainsAny(s.String(), "\n\x00") {
				t.Errorf("%q: printed as %q", text, s)
			}
		}
	})
}
