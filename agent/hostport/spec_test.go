package hostport

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]string{
		"8080:80":                 "6  8080-8080 80",
		"8080:80/udp":             "17  8080-8080 80",
		"8080:80/TCP":             "6  8080-8080 80",
		"80":                      "6  0-0 80",
		"0:80":                    "6  0-0 80",
		"80/udp":                  "17  0-0 80",
		"127.0.0.1:8080:80":       "6 127.0.0.1 8080-8080 80",
		"127.0.0.1::80/udp":       "17 127.0.0.1 0-0 80",
		"[127.0.0.1]:8080:80":     "6 127.0.0.1 8080-8080 80",
		"0.0.0.0:8080:80":         "6  8080-8080 80",
		"8080-8082:80":            "6  8080-8082 80",
		"8080-8082:80-82":         "6  8080-8080 80; 6  8081-8081 81; 6  8082-8082 82",
		"192.0.2.1:65535:1-1/udp": "17 192.0.2.1 65535-65535 1",
		"80-81":                   "6  0-0 80; 6  0-0 81",
	} {
		specs, err := Parse([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, s := range specs {
			addr := ""
			if s.addr != (netip.Addr{}) {
				addr = s.addr.String()
			}
			got = append(got, fmt.Sprintf("%d %s %d-%d %d", s.proto, addr, s.first, s.last, s.port))
		}
		if d := cmp.Diff(want, strings.Join(got, "; ")); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

func TestPortsThatCannotBePublished(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "no port of the endpoint",
		"0":                   "no port of the endpoint",
		"8080:":               "no port of the endpoint",
		"8080:0":              "no port of the endpoint",
		":80x":                "no port of the endpoint",
		"8080:65536":          "no port of the endpoint",
		"8080:82-80":          "no port of the endpoint",
		"0-3:80":              "no port of the host",
		"x:80":                "no port of the host",
		"8080-8079:80":        "no port of the host",
		"8080:80-81":          "differ in length",
		"8080-8082:80-81":     "differ in length",
		"80/sctp":             "only tcp and udp",
		"host:8080:80":        "no IP address",
		"1:2:3:4":             "no IP address",
		"[::1]:8080:80":       "only IPv4",
		"2001:db8::1:8080:80": "only IPv4",
	} {
		if _, err := Parse([]string{"1:1", text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
