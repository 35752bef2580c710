package agenttest

import (
	"path/filepath"
	"strings"
	"testing"
)

// Two engines side by side, each with a container, and nothing left of them.
func TestEngines(t *testing.T) {
	var id string
	t.Run("run", func(t *testing.T) {
		l := NewLab(t, Config{Hosts: 2})
		id = l.ID
		for _, h := range l.Hosts {
			e := h.NewEngine()
			e.Start()
			if name := e.Must("info", "--format", "{{.Name}}"); name != h.Name {
				t.Errorf("the engine of %s has the name %s", h.Name, name)
			}
			e.Detached("web")
			if got := e.Must("exec", "web", "cat", "/etc/resolv.conf"); !strings.Contains(got, RouterAddr.String()) {
				t.Errorf("resolv.conf of a container: %s", got)
			}
			if h.Name == "h2" {
				e.Kill() // and its container goes on, for the lab's end to find
			}
		}
	})
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + id + "-*", "/run/netns/" + id + "-*", labs + "/" + id} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	}
	if out := Run("", "pgrep", "-af", id).Stdout; out != "" {
		t.Errorf("left over:\n%s", out)
	}
}
