package api_test

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

func TestLabelOfAnyName(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web_1": "web_1", "my.app": "my-app", "-a-": "a", "": "", "...": "", "müller": "m--ller",
		strings.Repeat("x", 70): strings.Repeat("x", 63), strings.Repeat("x", 62) + ".y": strings.Repeat("x", 62),
	} {
		if got := api.Label(name); got != want {
			t.Errorf("Label(%q) = %q, want %q", name, got, want)
		}
	}
}
