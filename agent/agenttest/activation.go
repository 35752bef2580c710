package agenttest

import (
	"os"
	"path/filepath"
	"time"
)

// Activation is a service manager that listens on an agent's sockets and starts
// the agent when somebody calls.
type Activation struct {
	host         *Host
	called, gate string
}

// activated waits for the gate after the first call, and is the agent then.
const activated = `touch "$1"; while [ ! -e "$2" ]; do sleep 0.02; done; shift 2; exec "$@"`

// Activate listens on the sockets of a host whose agent does not run, under the
// names that the units give them. The first call starts an agent that is slow:
// it begins when Open is called. After that it is the host's agent.
func (h *Host) Activate() *Activation {
	t := h.lab.t
	t.Helper()
	Need(t, "systemd-socket-activate")
	a := &Activation{host: h, called: filepath.Join(h.Dir, "called"), gate: filepath.Join(h.Dir, "gate")}
	for _, file := range []string{a.called, a.gate} {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	plugin := filepath.Join(h.dockerDir(), "weft.sock")
	line := []string{"systemd-socket-activate", "-l", h.Socket(), "-l", plugin, "--fdname=api:docker", "sh", "-c", activated, "sh", a.called, a.gate,
		filepath.Join(Programs(t), "agentd")}
	for _, socket := range []string{h.Socket(), plugin} {
		if err := os.RemoveAll(socket); err != nil { // of an agent that was killed
			t.Fatal(err)
		}
	}
	h.agent = start(t, h.log(), nil, h.NS.Enter(append(line, h.Flags()...)...)...)
	for _, socket := range []string{h.Socket(), plugin} {
		Eventually(t, 5*time.Second, socket, func() error {
			_, err := os.Stat(socket)
			return err
		})
	}
	return a
}

// AwaitCall waits until somebody has called, and is kept waiting.
func (a *Activation) AwaitCall(within time.Duration) {
	t := a.host.lab.t
	t.Helper()
	Eventually(t, within, a.host.Name+": a call for the agent", func() error {
		_, err := os.Stat(a.called)
		return err
	})
}

// Open lets the agent begin.
func (a *Activation) Open() {
	t := a.host.lab.t
	t.Helper()
	if err := os.WriteFile(a.gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
