package agenttest

import (
	"os"
	"path/filepath"
	"testing"
)

// Conflists is the directory where the host's agent keeps CNI configurations.
func (h *Host) Conflists() string { return filepath.Join(h.Dir, "net.d") }

// Plugins is a CNI bin directory with our plugin in it, installed as weft.
func (h *Host) Plugins() string {
	t := h.lab.t
	t.Helper()
	dir := filepath.Join(h.Dir, "cni-bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(dir, "weft")
	if _, err := os.Lstat(plugin); err != nil {
		if err := os.Symlink(filepath.Join(Programs(t), "weft-cni"), plugin); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// CNITool runs the CNI's own command on the host; environment variables such as
// CAP_ARGS=… come before its verb.
func (h *Host) CNITool(args ...string) Result {
	h.lab.t.Helper()
	env := []string{"env", "CNI_PATH=" + h.Plugins(), "NETCONFPATH=" + h.Conflists()}
	for len(args) > 0 && isAssignment(args[0]) {
		env, args = append(env, args[0]), args[1:]
	}
	return h.NS.Run(append(append(env, Cached(h.lab.t, "cnitool-1.3.1")), args...)...)
}

func isAssignment(s string) bool {
	for _, c := range s {
		if c == '=' {
			return true
		}
		if (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return false
}

// Cached is the path of what .ci/install keeps for the tests under that name.
func Cached(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(dir, "weft", name))
	if err != nil {
		t.Skipf("this test needs %s: run .ci/install test (%v)", name, err)
	}
	return path
}
