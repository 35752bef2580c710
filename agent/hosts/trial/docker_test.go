package trial_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Where Docker runs, a container takes part, of an image that the suite brings along and
// takes away.
func TestSuiteWithDocker(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2)
	e := l.Host(1).NewEngine()
	e.ResolvConf("nameserver " + agenttest.NamedServer.String())
	e.Start()
	before := e.Must("images", "-q")
	var got report
	var r agenttest.Result
	agenttest.Eventually(t, 30*time.Second, "the agent finds the engine", func() error {
		got, r = run(t, l.Host(1), "--run", "docker|/d1/")
		if slices.ContainsFunc(got.failed(), func(s string) bool { return strings.HasPrefix(s, "docker/h1 skipped") }) {
			return fmt.Errorf("%s", got.failed())
		}
		return nil
	})
	if r.Code != 0 || got.Passed != 6 || got.Failed > 0 || got.Skipped != 1 {
		t.Errorf("%d passed: %s\n%s", got.Passed, strings.Join(got.failed(), "\n"), r.Stderr)
	}
	clean(t, l, 40*time.Second)
	if left, after := e.Must("ps", "-aq"), e.Must("images", "-q"); left != "" || after != before {
		t.Errorf("containers %q, images %q, before %q", left, after, before)
	}
}
