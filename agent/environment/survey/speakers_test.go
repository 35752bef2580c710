package survey_test

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/environment/survey"
)

func TestWhoSpeaksNetlinkIsNamed(t *testing.T) {
	c := exec.Command("ip", "monitor", "link")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	want := fmt.Sprintf("ip (%d)", c.Process.Pid)
	for end := time.Now().Add(10 * time.Second); !slices.Contains(survey.Speakers(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q is not among %q", want, survey.Speakers())
		}
	}
}
