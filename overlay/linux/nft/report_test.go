package nft

import (
	"bytes"
	"log/slog"
	"testing"
)

// What another program changed is shown as our line beside nft(8)'s.
func TestChangesAreReported(t *testing.T) {
	l := newNFTLab(t)
	var log bytes.Buffer
	l.nft.host.log = slog.New(slog.NewTextHandler(&log, nil))
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	l.put(t, want...)
	if log.Len() > 0 {
		t.Errorf("nobody changed anything, but the log says:\n%s", &log)
	}
	sh(t, `ip netns exec %s nft insert rule inet weft nat_post_ours ip daddr 203.0.113.9 limit rate 1/second accept`, l.host)
	sh(t, `ip netns exec %s nft add set inet weft mine '{ type ipv4_addr; }'`, l.host)
	l.put(t, tablesAsObjects(want)...)
	contains(t, log.String(), `table="inet weft"`, `chain=nat_post_ours want="" have="ip daddr 203.0.113.9 limit rate 1/second accept"`,
		`change="set mine: one too many"`)
	log.Reset()
	sh(t, `ip netns exec %s sh -c 'nft replace rule inet weft nat_out handle $(nft -a list chain inet weft nat_out |
		sed -n "s/.*goto published # handle //p") fib daddr type local accept'`, l.host)
	l.put(t, tablesAsObjects(want)...)
	contains(t, log.String(), `want="fib daddr type local goto published" have="fib daddr type local accept"`)
	same(t, want, l.list(t))
}
