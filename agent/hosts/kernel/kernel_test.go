package kernel_test

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/agent/agenttest/vm"
)

// users are tests that say what a user sees, and tests of what is programmed and repaired.
// Each is one more sentence that holds on Debian 12's kernel. Those that take minutes there
// are left out.
var users = []struct {
	in    string
	names []string
}{
	{"../endpoints", []string{
		"TestFirstStepsFromInitToAPingByName",
		"TestPublishedPortsReachTheEndpointFromEverywhere",
		"TestPublishedConnectionOutlivesTheAgent", // kill -9: the kernel's objects stay the same
	}},
	{"../runtimes", []string{"TestCNIPluginFromAddToGC"}},
	{"../../../overlay/linux", []string{
		"TestRoundTrip", "TestRestartedAgentAdoptsWithoutTouching", "TestRunRepairsTheKernel", "TestUnderlayChangesInPlace",
		"TestForeignRouteIsLeftAlone", "TestClean", "TestTwoHosts", "TestLostFabricIsHealed", "TestPlug",
	}},
	{"../../../overlay/linux/nft", []string{
		"TestRestartedAgentAdopts", "TestRestartedAgentRepairs", "TestElementsRoundTrip", "TestIntervalsRoundTrip", "TestPublishedPorts",
		"TestDroppedPackets", "TestAcceptedPackets",
	}},
}

func TestKernelOfDebian12(t *testing.T) {
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	m := vm.Boot(t, l, vm.Config{})
	m.Programs()
	if release := m.Must("uname", "-r"); !strings.HasPrefix(release, "6.1.") {
		t.Errorf("the machine runs %s", release)
	}
	for _, u := range users {
		t.Run(path.Base(u.in), func(t *testing.T) { m.Test(t, u.in, u.names, 8*time.Minute) })
	}
}
