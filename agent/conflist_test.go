package agent

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/discovery"
)

// files lists the names in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

func TestConflistsFollowTheNetworks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net.d")
	c := &conflists{dir: dir, socket: "/tmp/a/agentd.sock", log: slog.New(slog.DiscardHandler)}
	blue, red := discovery.Network{Name: "blue"}, discovery.Network{Name: "red"}
	c.set([]discovery.Network{blue, red}, true)
	if got, want := files(t, dir), []string{"weft-blue.conflist", "weft-red.conflist"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	var l conflist
	b, err := os.ReadFile(filepath.Join(dir, "weft-blue.conflist"))
	if err != nil || json.Unmarshal(b, &l) != nil || l.Name != "blue" || l.Plugins[0].Type != "weft" || l.Plugins[0].Socket != c.socket {
		t.Errorf("%v in %s", err, b)
	}

	os.Remove(filepath.Join(dir, "weft-blue.conflist")) // as podman network rm does
	c.set([]discovery.Network{blue}, false)
	if got, want := files(t, dir), []string{"weft-blue.conflist", "weft-red.conflist"}; !slices.Equal(got, want) {
		t.Errorf("before the pool was read: got %v, want %v", got, want)
	}
	red.State = discovery.NetworkDeleting
	c.set([]discovery.Network{blue, red}, true)
	if got, want := files(t, dir), []string{"weft-blue.conflist"}; !slices.Equal(got, want) {
		t.Errorf("after red was deleted: got %v, want %v", got, want)
	}
}

// What another agent, or a person, keeps in the directory is theirs.
func TestConflistsOfOthersStay(t *testing.T) {
	dir := t.TempDir()
	other := &conflists{dir: dir, socket: "/tmp/b/agentd.sock", log: slog.New(slog.DiscardHandler)}
	other.set([]discovery.Network{{Name: "green"}}, true)
	const byHand = `{"cniVersion": "1.0.0", "name": "blue", "plugins": [{"type": "weft"}]}`
	for _, name := range []string{"weft-blue.conflist", "weft-hand.conflist", "10-bridge.conflist"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(byHand), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, dir)
	c := &conflists{dir: dir, socket: "/run/weft/agentd.sock", log: slog.New(slog.DiscardHandler)}
	c.set([]discovery.Network{{Name: "blue"}}, true)
	if all := c.check(); len(all) != 1 || !strings.Contains(all[0].Detail, "weft-blue.conflist is not ours") {
		t.Errorf("status says %+v", all)
	}
	c.set(nil, true)
	if all := c.check(); len(all) != 0 {
		t.Errorf("status says %+v of nothing", all)
	}
	if got := files(t, dir); !slices.Equal(got, before) {
		t.Errorf("got %v, want %v", got, before)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "weft-blue.conflist")); string(b) != byHand {
		t.Errorf("the file of the same name is now %s", b)
	}
}

func TestConflistsAreKeptByTheMachinesAgentOnly(t *testing.T) {
	cfg := config.Default()
	if got := cfg.ConflistDir(); got != "/etc/cni/net.d" {
		t.Errorf("default: %q", got)
	}
	cfg.RunDir = "/tmp/run"
	if got := cfg.ConflistDir(); got != "" {
		t.Errorf("another run directory: %q", got)
	}
	cfg.CNIConf = "/tmp/net.d"
	if got := cfg.ConflistDir(); got != "/tmp/net.d" {
		t.Errorf("given: %q", got)
	}
	cfg = config.Default()
	cfg.CNIConf = "none"
	if got := cfg.ConflistDir(); got != "" {
		t.Errorf("none: %q", got)
	}
}
