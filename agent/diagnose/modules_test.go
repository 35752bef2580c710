package diagnose

import (
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

func TestModulesCheckNamesWhatIsMissingAndForWhat(t *testing.T) {
	there := overlay.Need{Module: "vxlan", Since: "3.12", For: "traffic between hosts"}
	if c := modules(Facts{Needs: []overlay.Need{there}}); c.State != api.CheckOK {
		t.Errorf("nothing missing: got %+v", c)
	}
	if c := modules(Facts{Needs: []overlay.Need{there, {Module: "ipv6", Rest: true, Err: syscall.ENOENT}}}); c.State != api.CheckWarn {
		t.Errorf("the rest works: got %+v", c)
	}
	c := modules(Facts{Needs: []overlay.Need{
		there,
		{Module: "nf_conntrack_netlink", Since: "2.6.14", For: "ports that move", Err: syscall.EINVAL},
		{Module: "nft_ct", Since: "3.18", For: "answers", Err: syscall.ENOENT},
		{Module: "nft_ct", Since: "4.9", For: "names", Err: syscall.ENOENT},
		{Module: "SO_NETNS_COOKIE", Since: "5.14", For: "endpoints", Err: syscall.ENOPROTOOPT},
	}})
	for _, want := range []string{"nf_conntrack_netlink (Linux 2.6.14), for ports that move: invalid argument", "nft_ct (Linux 3.18), for answers; names: "} {
		if !strings.Contains(c.Detail, want) {
			t.Errorf("%q is not in %q", want, c.Detail)
		}
	}
	want := "modprobe nf_conntrack_netlink && systemctl restart agentd\nmodprobe nft_ct && systemctl restart agentd\nuname -r # SO_NETNS_COOKIE came with Linux 5.14"
	if c.State != api.CheckFail || c.Hint != want || strings.Contains(c.Detail, "vxlan") {
		t.Errorf("got %+v", c)
	}
}
