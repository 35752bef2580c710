package diagnose

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

func TestOldKernelIsNamedWithWhatItCannotDo(t *testing.T) {
	for _, tt := range []struct {
		release string
		state   string
		want    []string
	}{
		{"6.18.44", api.CheckOK, []string{"6.18.44"}},
		{"6.1.0-57-amd64", api.CheckOK, []string{"6.1.0-57-amd64"}},
		{"5.14.0-427.el9.x86_64", api.CheckOK, nil},
		{"5.10.0-32-amd64", api.CheckFail, []string{"5.10.0-32-amd64 is too old: nothing can be attached", "5.14"}},
		{"4.19.0-27-amd64", api.CheckFail, []string{"nothing can be attached", "no egress, no published ports", "5.2"}},
		{"10.0", api.CheckOK, nil},
		{"", api.CheckWarn, []string{"not known"}},
		{"linux", api.CheckWarn, []string{"not known"}},
	} {
		c := Linux(tt.release)
		if c.State != tt.state || (c.State != api.CheckOK) == (c.Hint == "") {
			t.Errorf("%q: %+v, want %s", tt.release, c, tt.state)
		}
		for _, want := range tt.want {
			if !strings.Contains(c.Detail, want) {
				t.Errorf("%q: %q does not say %q", tt.release, c.Detail, want)
			}
		}
		if tt.release == "5.10.0-32-amd64" && strings.Contains(c.Detail, "egress") {
			t.Errorf("%q: %q, but 5.10 has NAT in the family inet", tt.release, c.Detail)
		}
	}
}
