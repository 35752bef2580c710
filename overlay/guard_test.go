package overlay

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAccepts(t *testing.T) {
	guards := []Guard{{Chain: "DOCKER-USER"}, {IPv6: true, Chain: "FORWARD"}}
	v4 := Network{VNI: 2, Subnets: []Subnet{subnet("10.42.0.0/24", "10.42.0.1")}}
	v6 := Network{VNI: 3, Subnets: []Subnet{subnet("2001:db8:42::/64", "2001:db8:42::1")}}
	inward := v4
	inward.Internal = true
	docker := []string{
		"iptables -I DOCKER-USER -m devgroup --src-group 0x4f56 -m comment --comment weft -j ACCEPT",
		"iptables -I DOCKER-USER -m devgroup --dst-group 0x4f56 -m comment --comment weft -j ACCEPT",
	}
	for name, row := range map[string]struct {
		networks []Network
		guards   []Guard
		want     []string
	}{
		"no guard":         {[]Network{v4, v6}, nil, nil},
		"no network":       {nil, guards, nil},
		"internal network": {[]Network{inward}, guards, nil},
		"IPv4":             {[]Network{v4}, guards, docker},
		"both": {[]Network{v4, v6}, guards, append(slices.Clone(docker),
			"ip6tables -I FORWARD -m devgroup --src-group 0x4f56 -m comment --comment weft -j ACCEPT",
			"ip6tables -I FORWARD -m devgroup --dst-group 0x4f56 -m comment --comment weft -j ACCEPT")},
	} {
		var got []string
		for _, o := range objects(State{VTEP: addr("192.0.2.1"), Networks: row.networks}, facts{guards: row.guards}) {
			if a, ok := o.(Accept); ok {
				got = append(got, a.String())
			}
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if got, want := (Accept{guards[0], true}).Deletion(), "iptables -D DOCKER-USER -m devgroup --dst-group 0x4f56 -m comment --comment weft -j ACCEPT"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
