package conflist

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	c := &Dir{dir: dir, socket: "/tmp/a/agentd.sock", log: slog.New(slog.DiscardHandler)}
	blue, red := discovery.Network{Name: "blue"}, discovery.Network{Name: "red"}
	c.Set([]discovery.Network{blue, red}, true)
	if got, want := files(t, dir), []string{"weft-blue.conflist", "weft-red.conflist"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	var l file
	b, err := os.ReadFile(filepath.Join(dir, "weft-blue.conflist"))
	if err != nil || json.Unmarshal(b, &l) != nil || l.Name != "blue" || l.Plugins[0].Type != "weft" || l.Plugins[0].Socket != c.socket {
		t.Errorf("%v in %s", err, b)
	}

	os.Remove(filepath.Join(dir, "weft-blue.conflist")) // as podman network rm does
	c.Set([]discovery.Network{blue}, false)
	if got, want := files(t, dir), []string{"weft-blue.conflist", "weft-red.conflist"}; !slices.Equal(got, want) {
		t.Errorf("before the pool was read: got %v, want %v", got, want)
	}
	red.State = discovery.NetworkDeleting
	c.Set([]discovery.Network{blue, red}, true)
	if got, want := files(t, dir), []string{"weft-blue.conflist"}; !slices.Equal(got, want) {
		t.Errorf("after red was deleted: got %v, want %v", got, want)
	}
}

// What another agent, or a person, keeps in the directory is theirs.
func TestConflistsOfOthersStay(t *testing.T) {
	dir := t.TempDir()
	other := &Dir{dir: dir, socket: "/tmp/b/agentd.sock", log: slog.New(slog.DiscardHandler)}
	other.Set([]discovery.Network{{Name: "green"}}, true)
	const byHand = `{"cniVersion": "1.0.0", "name": "blue", "plugins": [{"type": "weft"}]}`
	for _, name := range []string{"weft-blue.conflist", "weft-hand.conflist", "10-bridge.conflist"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(byHand), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, dir)
	c := &Dir{dir: dir, socket: "/run/weft/agentd.sock", log: slog.New(slog.DiscardHandler)}
	c.Set([]discovery.Network{{Name: "blue"}}, true)
	if all := c.Check(); len(all) != 1 || !strings.Contains(all[0].Detail, "weft-blue.conflist is not ours") {
		t.Errorf("status says %+v", all)
	}
	c.Set(nil, true)
	if all := c.Check(); len(all) != 0 {
		t.Errorf("status says %+v of nothing", all)
	}
	if got := files(t, dir); !slices.Equal(got, before) {
		t.Errorf("got %v, want %v", got, before)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "weft-blue.conflist")); string(b) != byHand {
		t.Errorf("the file of the same name is now %s", b)
	}
}
