package agenttest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Hints are the lines that a failed command says to type next, without the words for
// people behind them.
func Hints(r Result) (lines []string) {
	for line := range strings.Lines(r.Stderr) {
		if hint, ok := strings.CutPrefix(strings.TrimSpace(line), "hint: "); ok {
			line, _, _ := strings.Cut(hint, " # ")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Type types a hint on this host, with fill in place of the words in capitals that it
// leaves to the user.
func (h *Host) Type(hint string, fill map[string]string) Result {
	h.lab.t.Helper()
	words := strings.Fields(hint)
	for i, w := range words {
		if v, ok := fill[w]; ok {
			words[i] = v
		}
	}
	if words[0] == "agentctl" {
		words[0] = filepath.Join(Programs(h.lab.t), "agentctl")
		if !slices.Contains(words, "--socket") {
			words = slices.Insert(words, 1, "--socket", h.Socket())
		}
	}
	return h.NS.Run(words...)
}

// TypeAll types every hint of a refused command: each has to work as it is printed.
func (h *Host) TypeAll(t testing.TB, r Result, fill map[string]string) {
	t.Helper()
	all := Hints(r)
	if len(all) == 0 {
		t.Errorf("no hint: %s", r)
	}
	for _, hint := range all {
		if typed := h.Type(hint, fill); typed.Code != 0 {
			t.Errorf("hint %q of %s\ntyped: %s", hint, r, typed)
		}
	}
}
