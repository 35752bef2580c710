package strict

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/discovery"
)

func TestDetailsAreBounded(t *testing.T) {
	var ports []discovery.Port
	labels := map[string]string{"big": strings.Repeat("x", 10_000), "bad": "a\nb", "": "empty", "team": "shop"}
	for i := range 200 {
		ports = append(ports, discovery.Port{Proto: 6, HostAddr: netip.MustParseAddr("192.0.2.1"), HostPort: uint16(i), Port: 80})
		labels[fmt.Sprint("l", i)] = strings.Repeat("v", 20)
	}
	for name, d := range map[string]discovery.Details{"ports": Details(ports, nil), "labels": Details(nil, labels), "both": Details(ports, labels), "none": Details(nil, nil),
		"few": Details(ports[1:2], map[string]string{"team": "shop"})} {
		e := discovery.Endpoint{IPv4: netip.MustParseAddr("10.64.0.5"), MAC: discovery.MAC{2}, Details: d}
		if err := Announced(e); err != nil {
			t.Errorf("%s: no member takes it: %v", name, err)
		}
		want := map[string]int{"ports": 200, "labels": 204, "both": 404, "none": 0, "few": 2}[name]
		if got := len(d.Ports) + len(d.Labels) + int(d.Told) - 1; got != want || name != "none" && name != "few" && d.Told < 2 || (name == "none" || name == "few") && d.Told != 1 {
			t.Errorf("%s: %d ports, %d labels, told %d: want %d in all", name, len(d.Ports), len(d.Labels), d.Told, want)
		}
	}
	if d := Details(ports, map[string]string{"team": "shop"}); d.Ports[0].HostPort != 1 {
		t.Errorf("the first port is %d", d.Ports[0].HostPort)
	}
}

func TestWrongDetailsAreRefused(t *testing.T) {
	port := discovery.Port{Proto: 6, HostPort: 8080, Port: 80}
	for want, d := range map[string]discovery.Details{
		"protocol 132":       {Ports: []discovery.Port{{Proto: 132, HostPort: 1, Port: 1}}},
		"publishes port 0":   {Ports: []discovery.Port{{Proto: 6, Port: 1}}},
		"at 224.0.0.1":       {Ports: []discovery.Port{{Proto: 6, HostPort: 1, Port: 1, HostAddr: netip.MustParseAddr("224.0.0.1")}}},
		"cannot be shown":    {Labels: []string{"a=\x1b[2J"}},
		"no KEY=VALUE":       {Labels: []string{"team"}},
		"bytes of ports":     {Labels: []string{"a=" + strings.Repeat("x", mostDetails)}},
		"bytes of ports and": {Ports: []discovery.Port{port, port, port}, Labels: []string{"a=" + strings.Repeat("x", mostDetails-8)}},
	} {
		e := discovery.Endpoint{IPv4: netip.MustParseAddr("10.64.0.5"), MAC: discovery.MAC{2}, Details: d}
		if err := Announced(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
