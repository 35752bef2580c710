package gossip

import (
	"net/netip"
	"testing"
	"time"
)

// Strangers are counted by address, forgotten when they are silent, and no number of
// them fills the host.
func TestStrangersAreCounted(t *testing.T) {
	now := time.Now()
	member := netip.MustParseAddr("192.0.2.1")
	s := strangers{member: func(a netip.Addr) bool { return a == member }}
	stranger := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	for i := range 3 * mostStrangers {
		s.note(stranger(i), now)
	}
	s.note(stranger(7), now)
	s.note(member, now)
	all := s.all(now)
	if len(all) != mostStrangers || all[0] != (Stranger{stranger(7), 2, now}) {
		t.Errorf("%d are told of, first %+v", len(all), all[0])
	}
	later := now.Add(strangerTime + time.Second)
	s.note(stranger(1000), later)
	if all := s.all(later); len(all) != 1 || all[0].From != stranger(1000) {
		t.Errorf("later: %+v", all)
	}
}

func TestSenderInALineOfMemberlist(t *testing.T) {
	for line, want := range map[string]string{
		"Decrypt packet failed: No installed keys could decrypt the message from=192.0.2.1:9": "192.0.2.1",
		"failed to receive: cannot decrypt from=[2001:db8::1]:9":                              "2001:db8::1",
		"Stream connection from=[::ffff:192.0.2.1]:9 again":                                   "192.0.2.1",
		"no sender here":            "invalid IP",
		"a lie from=somewhere else": "invalid IP",
	} {
		got, ok := senderIn([]byte(line))
		if got.String() != want || ok == (want == "invalid IP") {
			t.Errorf("%q: got %v, %t", line, got, ok)
		}
	}
}
