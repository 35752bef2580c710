package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// typeHints types every hint that the dialogues printed, with values for the words in
// capitals: none leads to a second refusal of the same words, and none is misuse.
func typeHints(t *testing.T, dir string) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("weft1.good"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("ADDRESS", "192.0.2.2", "FILE", token, "NETWORK", "blue", "NAME", "name1", "CIDR", "10.200.0.0/24", "PID", "1", "IP", "192.0.2.7", "ENDPOINT", "db")
	hints := printedHints(t, dir)
	if len(hints) < 15 {
		t.Errorf("only %d hints were printed: %q", len(hints), hints)
	}
	for _, hint := range hints {
		line, _, _ := strings.Cut(hint, " #")
		words := strings.Fields(line)
		if words[0] != "agentctl" {
			continue // other programs are those of TestHintsAreCommands
		}
		ag, err := startAgent(newCluster())
		if err != nil {
			t.Fatal(err)
		}
		words = strings.Fields(fill.Replace(strings.Join(words[1:], " ")))
		if i := slices.Index(words, "--socket"); i >= 0 {
			words = slices.Delete(words, i, i+2) // of an agent that has gone
		}
		var stderr bytes.Buffer
		code := run(append([]string{"--timeout", "2s"}, words...), strings.NewReader(""), &bytes.Buffer{}, &stderr, socketOnly(ag.socket))
		ag.remove()
		if code == 2 || strings.Contains(stderr.String(), "hint: "+hint+"\n") {
			t.Errorf("hint %q: typed, it exits %d:\n%s", hint, code, &stderr)
		}
	}
}

// printedHints are the hints in the files of a directory, each once.
func printedHints(t *testing.T, dir string) (hints []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "said*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if hint, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "hint: "); ok && !slices.Contains(hints, hint) {
				hints = append(hints, hint)
			}
		}
	}
	return hints
}
