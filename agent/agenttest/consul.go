package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// consulBinary is the server that .ci/install builds.
func consulBinary(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "weft", "consul-1.12.9")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("this test needs a Consul server: run .ci/install test (%v)", err)
	}
	return path
}

// ConsulURL is where the lab's Consul answers.
func (l *Lab) ConsulURL() string { return consulURL }

// StartConsul starts a Consul server on the underlay and waits for its leader.
// Its data outlives StopConsul.
func (l *Lab) StartConsul() {
	l.t.Helper()
	data := filepath.Join(l.Dir, "consul")
	args := l.Internet.Enter(consulBinary(l.t), "agent", "-server", "-bootstrap-expect=1",
		"-data-dir", data, "-bind", routerAddr.String(), "-client", routerAddr.String(),
		"-disable-host-node-id", "-log-level", "warn",
		// One server on a quiet link elects itself at once.
		"-hcl", "performance { raft_multiplier = 1 }")
	l.consul = start(l.t, filepath.Join(l.Dir, "consul.log"), nil, args...)
	Eventually(l.t, 30*time.Second, "a Consul leader", func() error {
		r := l.Internet.Run("curl", "-sf", "-m", "1", consulURL+"/v1/status/leader")
		if r.Code != 0 || len(r.Stdout) < len(`"a:1"`) {
			return fmt.Errorf("%s\n%s", r, tail(l.consul.log, 5))
		}
		return nil
	})
}

// StopConsul kills the Consul server as kill -9 does.
func (l *Lab) StopConsul() {
	l.t.Helper()
	if err := l.consul.signal(syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
}
