package diagnose

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each check that status may show is explained in the manual.
func TestManualExplainsEveryCheck(t *testing.T) {
	manual, err := os.ReadFile("../../cmd/manual/weft-operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(manual), "| check | not ok means |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{dockerNames: true}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`api\.Check\{Name: "([a-z-]+)"`).FindAllSubmatch(code, -1) {
			names[string(m[1])] = true
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d checks were found: %v", len(names), names)
	}
	for name := range names {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("weft-operations(7) does not explain the check %s", name)
		}
	}
}
