package setup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReach(t *testing.T) {
	for _, tt := range []struct {
		name      string
		facts     Facts
		redirects bool
		ok        bool
	}{
		{"an ordinary resolver", Facts{Version: "20.10.24", Resolv: []string{"192.0.2.53"}}, true, true},
		{"no resolver: the engine's public ones", Facts{Version: "27.0.1"}, true, true},
		{"a stub resolver", Facts{Version: "20.10.24", Resolv: []string{"127.0.0.53"}}, true, false},
		{"an engine just old enough", Facts{Version: "27.5.1", API: "1.47", Resolv: []string{"192.0.2.53"}}, true, true},
		{"a newer engine", Facts{Version: "28.0.0", API: "1.48", Resolv: []string{"192.0.2.53"}}, true, false},
		{"a newer engine with servers", Facts{Version: "29.1.0", API: "1.52", Servers: []string{"192.0.2.53"}, Resolv: []string{"127.0.0.53"}}, true, true},
		{"set up", Facts{Version: "29.1.0", API: "1.52", Servers: []string{Address}, Resolv: []string{"127.0.0.53"}}, false, true},
		{"nothing redirected", Facts{Version: "20.10.24", Resolv: []string{"192.0.2.53"}}, false, false},
	} {
		if words, ok := tt.facts.Reach(tt.redirects); ok != tt.ok || words == "" {
			t.Errorf("%s: %t, %s", tt.name, ok, words)
		}
	}
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	file, resolvConf := filepath.Join(dir, "daemon.json"), filepath.Join(dir, "resolv.conf")
	if f, err := Look(file, resolvConf); err != nil || !cmp.Equal(f, Facts{}) || f.Listed() {
		t.Errorf("nothing there: %+v, %v", f, err)
	}
	for path, text := range map[string]string{
		file: `{"dns": ["169.254.53.53", "192.0.2.53"]}`, resolvConf: "search corp.test\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Look(file, resolvConf)
	want := Facts{Servers: []string{Address, "192.0.2.53"}, Resolv: []string{"127.0.0.53", "192.0.2.53"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || !got.Listed() {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got := Upstreams(resolvConf); !cmp.Equal(got, []string{"192.0.2.53"}) {
		t.Errorf("upstreams %q", got)
	}
}
