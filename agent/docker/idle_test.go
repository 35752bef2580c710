package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestTheIdleProgramRuns(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is none for this machine")
	}
	file := filepath.Join(t.TempDir(), "idle")
	if err := os.WriteFile(file, idleProgram(), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		t.Errorf("it ends: %v", err)
	case <-time.After(200 * time.Millisecond): // a program that is wrong dies at its first instruction
		_ = cmd.Process.Kill()
		<-ended
	}
}
