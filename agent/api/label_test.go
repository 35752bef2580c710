package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

func TestLabelOfAnyName(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web_1": "web_1", "my.app": "my-app", "-a-": "a", "": "", "...": "", "müller": "", "a b": "a-b",
		strings.Repeat("x", 70): strings.Repeat("x", 63), strings.Repeat("x", 62) + ".y": strings.Repeat("x", 62),
	} {
		if got := api.Label(name); got != want {
			t.Errorf("Label(%q) = %q, want %q", name, got, want)
		}
	}
}

// A name with dots is asked for as it is, too, when DNS can carry it.
func TestNames(t *testing.T) {
	for name, want := range map[string][]string{
		"Web":                          {"web"},
		"DB.prod":                      {"db-prod", "db.prod"},
		"a..b":                         {"a--b"},
		".":                            nil,
		"a b.c":                        {"a-b-c"},
		"-a.b":                         {"a-b"},
		"a.b-.c":                       {"a-b--c"},
		"shop_1.x":                     {"shop_1-x", "shop_1.x"},
		strings.Repeat("X", 66):        {strings.Repeat("x", 63), strings.Repeat("x", 66)},
		"a." + strings.Repeat("x", 66): {"a-" + strings.Repeat("x", 61), "a." + strings.Repeat("x", 66)},
		strings.Repeat("x", 300):       {strings.Repeat("x", 63)},
	} {
		if got := api.Names(name); !slices.Equal(got, want) {
			t.Errorf("Names(%q) = %q, want %q", name, got, want)
		}
	}
}
