package agenttest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
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

// Environment variables of a test that runs in an emulated machine.
const (
	ProgramsEnv = "WEFT_TEST_PROGRAMS" // the directory of Programs
	SlowerEnv   = "WEFT_TEST_SLOWER"   // how many times the bounds of Eventually are stretched
)

var programs struct {
	once   sync.Once
	dir    string
	err    error
	remove func()
}

// Programs returns the directory that holds agentd, agentctl and the plugins,
// built from this module as they are released. In a machine without the go command
// they are what ProgramsEnv names.
func Programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(ProgramsEnv); dir != "" {
		return dir
	}
	programs.once.Do(func() {
		// The directory is claimed as a lab's is, so that it is swept after a
		// killed run.
		id, dir, release := claim(t)
		programs.dir, programs.err = dir, build(t, dir)
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

// build copies the programs to dir out of a directory that the checkout keeps for
// them: there the go command links only what changed, and the packages of a run
// ask one after the other for the same programs.
func build(t testing.TB, dir string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	checkout := sha256.Sum256([]byte(must(t, "go", "env", "GOMOD")))
	kept := filepath.Join(cache, "weft", fmt.Sprintf("programs-%x", checkout[:6]))
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	lock, err := flock(kept+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", kept+string(filepath.Separator), "github.com/weft-net/weft/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	must(t, "cp", "-r", kept+"/.", dir)
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
