package linux

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// A kernel on which the tests pass has everything; to find that out leaves nothing
// behind and holds nobody up.
func TestNeedsOfThisKernel(t *testing.T) {
	h := newHost(t)
	start := time.Now()
	for _, n := range Needs(t.Context()) {
		if n.Err != nil || n.Module == "" || n.Since == "" || n.For == "" {
			t.Errorf("%+v", n)
		}
	}
	t.Logf("tried in %v", time.Since(start))
	await(t, nil, func() bool { return len(h.k.Needs()) == len(needs) })
}

// What the kernel does not take is told from what it takes.
func TestOnlyWhatIsMissingIsNamed(t *testing.T) {
	needRoot(t)
	errs := nft.Try(t.Context(), inet("filter", "forward", 0, "accept"), inet("filter", "forward", 0, "no such statement"), inet("nat", "postrouting", 100, "masquerade"))
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	err := lacking("vxlan", unix.EOPNOTSUPP)
	if r, ok := err.(*overlay.Remedy); !ok || r.Command != "modprobe vxlan" || !strings.Contains(err.Error(), "module vxlan") {
		t.Errorf("got %v", err)
	}
	if lacking("vxlan", unix.EEXIST) != unix.EEXIST {
		t.Error("another error became one of a module")
	}
}
