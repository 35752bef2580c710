package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// linuxNeeds are what weft uses that kernels before a release have not, the newest first.
// A distribution may have it in an older one: only what is asked for and refused is a
// fault of the check named kernel.
var linuxNeeds = []struct {
	major, minor  int
	uses, without string
}{
	{5, 14, "namespace cookies (SO_NETNS_COOKIE)", "nothing can be attached"},
	{5, 2, "NAT in nftables' family inet", "no egress, no published ports, no redirected lookups"},
}

// Linux says what does not work on a kernel of that release, as uname -r prints it.
func Linux(release string) api.Check {
	c := api.Check{Name: "linux", State: api.CheckOK, Detail: release}
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		c.State, c.Detail = api.CheckWarn, fmt.Sprintf("%q is no release of Linux: whether weft works on it is not known", release)
		c.Hint = "uname -r"
		return c
	}
	var missing []string
	for _, n := range linuxNeeds {
		if major < n.major || major == n.major && minor < n.minor {
			missing = append(missing, fmt.Sprintf("%s: %s came with %d.%d", n.without, n.uses, n.major, n.minor))
		}
	}
	if len(missing) > 0 {
		c.State, c.Detail = api.CheckFail, release+" is too old: "+strings.Join(missing, "; ")
		c.Hint = fmt.Sprintf("uname -r # boot Linux %d.%d or later", linuxNeeds[0].major, linuxNeeds[0].minor)
	}
	return c
}
