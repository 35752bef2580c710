package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// slower is how many times an emulated machine may be slower than one that the bounds of
// the tests are meant for.
const slower = 10

var verdict = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): .*$`)

// Test runs tests of the package in a directory of this module in the machine, by their
// names. It fails as they fail, or when one did not run.
func (m *Machine) Test(t testing.TB, in string, names []string, within time.Duration) {
	t.Helper()
	program := filepath.Base(in) + ".test"
	dir := filepath.Join(m.Share, program+".d")
	must(t, "env", "CGO_ENABLED=0", "go", "test", "-c", "-o", filepath.Join(dir, program), in)
	if _, err := os.Stat(filepath.Join(in, "testdata")); err == nil {
		must(t, "cp", "-r", filepath.Join(in, "testdata"), dir)
	}
	start := time.Now()
	r := m.script(fmt.Sprintf("cp -r /w/%s.d /root/; cd /root/%s.d && %s=/root/programs %s=%d exec ./%s -test.v -test.parallel 1 -test.timeout %v -test.run '^(%s)$'",
		program, program, agenttest.ProgramsEnv, agenttest.SlowerEnv, slower, program, within, strings.Join(names, "|")), within+time.Minute)
	seen := verdict.FindAllString(r.Stdout, -1)
	if r.Code != 0 || strings.Contains(r.Stdout, "--- SKIP") || len(seen) != len(names) {
		t.Errorf("exit code %d after %v, %d of %d tests ended\n%s\n%s", r.Code, time.Since(start), len(seen), len(names), r.Stdout, r.Stderr)
		return
	}
	t.Logf("%v\n%s", time.Since(start).Round(time.Second), strings.Join(seen, "\n"))
}

// Programs puts the programs of this module into /root/programs.
func (m *Machine) Programs() {
	m.t.Helper()
	must(m.t, "cp", "-r", agenttest.Programs(m.t), filepath.Join(m.Share, "programs"))
	m.Must("cp", "-r", "/w/programs", "/root")
}
