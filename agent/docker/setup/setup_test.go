package setup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var upstreams = []string{"192.0.2.53", "192.0.2.54", "192.0.2.55"}

func TestInsert(t *testing.T) {
	for _, tt := range []struct{ name, before, want string }{
		{"no file", "", "{\n  \"dns\": [\"169.254.53.53\", \"192.0.2.53\", \"192.0.2.54\"]\n}\n"},
		{"an empty object", "{}", "{\n  \"dns\": [\"169.254.53.53\", \"192.0.2.53\", \"192.0.2.54\"]\n}"},
		{"other keys", "{\n\t\"mtu\":1400 ,\n\t\"dns-x\": {\"dns\": []}\n}\n",
			"{\n\t\"dns\": [\"169.254.53.53\", \"192.0.2.53\", \"192.0.2.54\"],\n\t\"mtu\":1400 ,\n\t\"dns-x\": {\"dns\": []}\n}\n"},
		{"servers of its own", `{"mtu": 1, "dns": ["198.51.100.1"]}`, `{"mtu": 1, "dns": ["169.254.53.53", "198.51.100.1"]}`},
		{"ours, but not first", `{"dns": ["198.51.100.1","169.254.53.53"]}`, `{"dns": ["169.254.53.53", "198.51.100.1"]}`},
		{"done already", `{ "dns":["169.254.53.53"] }`, `{ "dns":["169.254.53.53"] }`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := insert([]byte(tt.before), upstreams)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMalformedFilesAreRefusedWithTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"{\n  \"mtu\": 1400,\n}":                  "line 3: ",
		"{\n  \"mtu\": 1400\n  \"ipv6\": true\n}": "line 3: ",
		"{\n  \"mtu\": 1400\n":                    "line 2: unexpected EOF",
		"[]":                                      "line 1: not a JSON object",
		"{}\n{}":                                  "line 2: something follows",
		"{\"a\": 1,\n\"a\": 2}":                   `line 2: a key is given twice: "a"`,
		"{\n\"dns\": \"192.0.2.1\"}":              `line 2: "dns" is no list of addresses`,
	} {
		if _, err := insert([]byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// What was there before comes back byte for byte, and the rest of a file never
// changes its meaning.
func TestRemoveUndoesInsert(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		conf := map[string]any{}
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"mtu", "ipv6", "a \"b\"", "dns-opts"}), 0, 4).Draw(t, "keys") {
			conf[key] = rapid.SampledFrom([]any{1.0, true, "x", []any{"y"}, map[string]any{"dns": "z"}}).Draw(t, key)
		}
		if rapid.Bool().Draw(t, "dns") {
			conf["dns"] = []any{"198.51.100.1"}
		}
		before, err := json.MarshalIndent(conf, "", rapid.SampledFrom([]string{"", "  ", "\t"}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		after, err := insert(before, upstreams)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(after, &got); err != nil {
			t.Fatalf("%v in %s", err, after)
		}
		delete(got, "dns")
		rest := map[string]any{}
		for k, v := range conf {
			if k != "dns" {
				rest[k] = v
			}
		}
		if diff := cmp.Diff(rest, got); diff != "" {
			t.Fatalf("other keys (-before +after):\n%s", diff)
		}
		undone, err := remove(after, before)
		if err != nil || string(undone) != string(before) {
			t.Fatalf("undone: %v\n%s\nwant\n%s", err, undone, before)
		}
	})
}

func TestRemoveKeepsLaterChanges(t *testing.T) {
	before := "{\n  \"mtu\": 1400\n}\n"
	changed := "{\n  \"dns\": [\"169.254.53.53\"],\n  \"mtu\": 1500,\n  \"ipv6\": true\n}\n"
	got, err := remove([]byte(changed), []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"mtu\": 1500,\n  \"ipv6\": true\n}\n"; string(got) != want {
		t.Errorf("got %s", got)
	}
	if got, err := remove([]byte("{\n  \"dns\": [\"169.254.53.53\"]\n}\n"), nil); got != nil || err != nil {
		t.Errorf("a file that was made by insert leaves %q, %v", got, err)
	}
}

func TestApplyAndRevert(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker", "daemon.json")
	steps := func(want bool, got bool, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Fatalf("changed %t, %v; want %t", got, err, want)
		}
	}
	apply := func(want bool) { t.Helper(); got, err := Apply(path, upstreams); steps(want, got, err) }
	revert := func(want bool) { t.Helper(); got, err := Revert(path); steps(want, got, err) }
	revert(false)
	apply(true)
	apply(false)
	revert(true)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file that was not there before: %v", err)
	}
	mine := "{ \"mtu\": 1400 }\n"
	if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(true)
	if kept, err := os.ReadFile(backupPath(path)); err != nil || string(kept) != mine {
		t.Errorf("backup: %q, %v", kept, err)
	}
	apply(false)
	revert(true)
	revert(false)
	if got, err := os.ReadFile(path); err != nil || string(got) != mine {
		t.Errorf("after all: %q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.WriteFile(path, []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(path, nil); err == nil || !strings.Contains(err.Error(), path+": line ") {
		t.Errorf("malformed: %v", err)
	}
}
