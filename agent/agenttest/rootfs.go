package agenttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rootfs makes the root directory of containers, as an image would be: busybox
// and the ping of the machine, with their libraries. Any number of containers
// share it.
func rootfs(t testing.TB, dir string) string {
	t.Helper()
	for _, d := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "www"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"busybox", "ping"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		copyInto(t, path, filepath.Join(dir, "bin", program))
		// A static program has no libraries, which ldd calls a failure.
		for _, library := range absolute.FindAllString(Run("", "ldd", path).Stdout, -1) {
			copyInto(t, library, filepath.Join(dir, library))
		}
	}
	for _, name := range strings.Fields(must(t, "busybox", "--list")) {
		err := os.Symlink("busybox", filepath.Join(dir, "bin", name))
		if err != nil && !errors.Is(err, os.ErrExist) { // the two programs themselves
			t.Fatal(err)
		}
	}
	return dir
}

var absolute = regexp.MustCompile(`/\S+`)

func copyInto(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
