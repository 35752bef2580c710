package agenttest

import (
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// ConsulURL is where the lab's Consul answers.
func (l *Lab) ConsulURL() string { return consulURL }

// StartConsul starts a Consul server on the underlay and waits for its leader.
// Its data outlives StopConsul. Of a flag that is given twice Consul takes the last.
func (l *Lab) StartConsul(flags ...string) {
	l.t.Helper()
	data := filepath.Join(l.Dir, "consul")
	args := l.Internet.Enter(Cached(l.t, "consul-1.12.9"), "agent", "-server", "-bootstrap-expect=1",
		"-data-dir", data, "-bind", RouterAddr.String(), "-client", RouterAddr.String(),
		"-disable-host-node-id", "-log-level", "warn",
		// One server on a quiet link elects itself at once.
		"-hcl", "performance { raft_multiplier = 1 }")
	args = append(args, flags...)
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
