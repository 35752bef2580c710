package page_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// contrast is that of WCAG 2.2, section 1.4.3, from 1 to 21.
func contrast(a, b float64) float64 { return (max(a, b) + .05) / (min(a, b) + .05) }

// luminance is that of a colour such as #1c1e21.
func luminance(t *testing.T, colour string) (l float64) {
	t.Helper()
	hex := strings.TrimPrefix(colour, "#")
	if len(hex) == 3 {
		hex = hex[:1] + hex[:1] + hex[1:2] + hex[1:2] + hex[2:] + hex[2:]
	}
	for i, weight := range []float64{.2126, .7152, .0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= .04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}

// Words can be read on what they stand on, in the light and in the dark.
func TestWordsStandOut(t *testing.T) {
	css, err := os.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	roots := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllSubmatch(css, -1)
	if len(roots) != 2 {
		t.Fatalf("%d palettes, want one for light and one for dark", len(roots))
	}
	for i, name := range []string{"light", "dark"} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{3,6});`).FindAllSubmatch(roots[i][1], -1) {
			colours[string(m[1])] = string(m[2])
		}
		for _, pair := range []string{"ink bg", "ink card", "ink tint", "quiet bg", "quiet card", "quiet tint", "accent bg", "accent card", "accent tint", "ok card", "ok bg", "ok ok-bg", "warn card", "warn bg", "warn warn-bg",
			"fail card", "fail bg", "fail fail-bg", "ink ok-bg", "ink fail-bg", "ink warn-bg", "quiet ok-bg", "quiet fail-bg", "quiet warn-bg", "none card", "none bg", "none none-bg", "card accent", "card fail"} {
			words, ground, _ := strings.Cut(pair, " ")
			if c := contrast(luminance(t, colours[words]), luminance(t, colours[ground])); c < 4.5 {
				t.Errorf("%s: %s on %s: %.2f, want 4.5", name, words, ground, c)
			}
		}
	}
}
