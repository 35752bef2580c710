package endpoints_test

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// Nothing is flooded and nothing is learned: every frame to a destination that
// the cluster does not know ends on its own host, counted on the switch between
// the hosts. Only what is meant for an endpoint crosses.
func TestNothingIsFloodedOrLearned(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	network := l.Host(1).CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	from := l.Observers("blue")
	before := l.Entries(t)

	packets := l.TunnelPackets(network.VNI)
	for _, o := range from {
		unknown(t, o)
	}
	if n := packets(); n > 0 {
		t.Errorf("%d packets crossed the underlay for nobody", n)
	}
	for i, h := range l.Hosts {
		if diff := agenttest.Diff(before[i], h.Entries(t)); diff != "" {
			t.Errorf("%s learned:\n%s", h.Name, diff)
		}
	}
	// One ping is two packets on the wire, and not one more.
	already := packets()
	if err := from[0].PingOnce(from[1].Addr); err != nil {
		t.Error(err)
	}
	if n := packets() - already; n != 2 {
		t.Errorf("one ping was %d packets on the underlay, want 2", n)
	}
}

// unknown sends every kind of frame whose destination nobody has.
func unknown(t *testing.T, o agenttest.Observer) {
	t.Helper()
	send := func(what string, args ...string) {
		if r := o.NS.Run(append([]string{"ping", "-n", "-c", "3", "-i", "0.01", "-W", "0.3"}, args...)...); strings.Contains(r.Stdout, "0 packets transmitted") || r.Code == 2 {
			t.Errorf("%s: %s", what, r)
		}
	}
	// ARP for an address that nobody has: ping reports it unreachable, exit 1.
	send("ARP for an unknown address", "10.77.0.250")
	send("broadcast", "-b", "10.77.0.255")
	send("limited broadcast", "-b", "-I", "eth0", "255.255.255.255")
	send("multicast", "-I", "eth0", "224.0.0.251")
	o.NS.Must(t, "ip", "neigh", "replace", "10.77.0.251", "lladdr", "0e:00:00:00:99:99", "dev", "eth0")
	send("a MAC that nobody has", "10.77.0.251")
	o.NS.Must(t, "ip", "neigh", "replace", "10.77.0.252", "lladdr", "ff:ff:ff:ff:ff:ff", "dev", "eth0")
	send("unicast address in a broadcast frame", "10.77.0.252")
}
