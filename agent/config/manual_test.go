package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// others look like keys and are none: options of networks, and a setting of Consul's.
var others = []string{"dns_answers", "host_access", "raft_multiplier"}

// Each key that the manual names exists, and what it says to set is accepted.
func TestKeysOfTheManualExist(t *testing.T) {
	keys := map[string]bool{}
	parent := ""
	for _, m := range regexp.MustCompile(`(?m)^( *)([a-z_]+):( .*)?$`).FindAllStringSubmatch(DefaultYAML, -1) {
		if m[1] == "" {
			parent = m[2]
			keys[m[2]] = true
		} else {
			keys[parent+"."+m[2]] = true
		}
	}
	files, err := filepath.Glob("../../cmd/manual/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	examples, err := filepath.Glob("../../examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:consul|dns|limits)\\.[a-z_]+|[a-z]+(?:_[a-z]+)+|domain|name|advertise|pool|profile)(: [^`]+)?`")
	count := 0
	for _, file := range append(append(files, examples...), "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			key, value := string(m[1]), string(m[2])
			if slices.Contains(others, key) || strings.HasPrefix(key, "weft_") || filepath.Base(filepath.Dir(file)) == "metrics" && value == "" {
				continue
			}
			count++
			if !keys[key] {
				t.Errorf("%s: there is no key %s", file, key)
				continue
			}
			if value == "" {
				continue
			}
			path := filepath.Join(t.TempDir(), "agentd.yaml")
			if err := os.WriteFile(path, []byte(key+value+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path, nil); err != nil {
				t.Errorf("%s: %s%s: %v", file, key, value, err)
			}
		}
	}
	if count < 15 {
		t.Errorf("only %d keys were found", count)
	}
}
