package strict

import (
	"strings"
	"testing"
)

func TestIfnameIsOneThatTheKernelTakesForThatInterfaceAlone(t *testing.T) {
	for _, name := range []string{"eth0", "a", "uplink-1", "eth0.100", "br_lan", "123456789012345", "allx", "lo"} {
		if err := Ifname(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "all", "default", "bonding_masters", "1234567890123456", "a/b", "../x", "a b", "a\tb", "a\n", "eth0:1",
		"eth%d", "eth*", "eth+", "-x", "a\x00", "é", `a"b`, "a;b", "$(x)"} {
		if err := Ifname(name); err == nil || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What passes is printable, short, and no path.
func FuzzIfname(f *testing.F) {
	f.Add("eth0")
	f.Add("all")
	f.Add("a/../b")
	f.Fuzz(func(t *testing.T, name string) {
		if Ifname(name) != nil {
			return
		}
		if len(name) > 15 || name == "" || strings.ContainsAny(name, "/ %*\n\x00") {
			t.Errorf("%q passes", name)
		}
	})
}
