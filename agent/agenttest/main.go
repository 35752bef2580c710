package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Main is the body of the TestMain of a package whose tests use labs: the
// programs are built once, when the first lab asks for them, and removed in the
// end.
//
//	func TestMain(m *testing.M) { agenttest.Main(m) }
func Main(m *testing.M) {
	defer func() {
		if programs.remove != nil {
			programs.remove()
		}
	}()
	m.Run() // the exit code is remembered and given when TestMain returns
}

var programs struct {
	once   sync.Once
	dir    string
	err    error
	remove func()
}

// Programs returns the directory that holds agentd, agentctl and the plugins,
// built from this module as they are released.
func Programs(t testing.TB) string {
	t.Helper()
	programs.once.Do(func() {
		// The directory is claimed as a lab's is, so that it is swept after a
		// killed run.
		id, dir, release := claim(t)
		programs.dir, programs.err = dir, build(dir)
		programs.remove = func() {
			remove(id)
			release()
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return programs.dir
}

func build(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+string(filepath.Separator), "github.com/weft-net/weft/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Need skips the test when it is not run by root or a program is missing.
// .ci/run provides all of them, so that nothing is skipped there.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("this test needs %s: run .ci/install test", p)
		}
	}
}
