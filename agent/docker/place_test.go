package docker

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// eventually waits until a file is there.
func eventually(t *testing.T, file string) {
	t.Helper()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("no %s", file)
		}
	}
}

// listens waits until somebody listens at a socket: its file is there before that.
func listens(t *testing.T, socket string) {
	t.Helper()
	const accepting = "00010000" // __SO_ACCEPTCON, the fourth field of proc_net_unix(5)
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 8 && f[3] == accepting && f[7] == socket {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("nobody listens at %s", socket)
		}
	}
}

func began(t *testing.T, cmd *exec.Cmd) (pid int) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd.Process.Pid
}

// systemctl stop docker leaves docker.socket, whose manager starts the engine for
// whoever dials: the agent does not.
func TestLookingForAnEngineDoesNotStartIt(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("needs systemd-socket-activate")
	}
	dir := t.TempDir()
	run, started := filepath.Join(dir, "run"), filepath.Join(dir, "started")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(run, filepath.Join(dir, "var-run")); err != nil {
		t.Fatal(err)
	}
	p := place{filepath.Join(run, "docker.sock"), filepath.Join(run, "docker.pid"), 0}
	bound := filepath.Join(dir, "var-run", "docker.sock")
	p.manager = began(t, exec.Command(activate, "-l", bound, "touch", started))
	listens(t, bound)
	// As one that was killed leaves it.
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{0, dead.Process.Pid} {
		if pid != 0 {
			writePid(t, p.pidfile, pid)
		}
		for range 3 {
			if found, err := find(p); found || err != nil {
				t.Errorf("pidfile of %d: found %v, %v", pid, found, err)
			}
		}
	}
	if _, _, err := open(t.Context(), p); err == nil {
		t.Error("an engine that does not run answers")
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := os.Stat(started); err == nil {
		t.Fatal("the engine was started")
	}
	c, err := net.Dial("unix", p.socket) // as the docker command does
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	eventually(t, started)
}

// An engine that has its socket from its service manager is found while it
// listens; not when it is being stopped, and only the manager has the socket.
func TestFindAnEngineThatWasGivenItsSocket(t *testing.T) {
	dir := t.TempDir()
	p := place{filepath.Join(dir, "docker.sock"), filepath.Join(dir, "docker.pid"), 0}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	socket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	manager := exec.Command("sleep", "infinity")
	manager.ExtraFiles = []*os.File{socket}
	p.manager = began(t, manager)
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	writePid(t, p.pidfile, os.Getpid())
	if found, err := find(p); !found || err != nil {
		t.Errorf("it listens: %v, %v", found, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := find(p); found || err != nil {
		t.Errorf("it is being stopped: %v, %v", found, err)
	}
	unknown := p
	unknown.manager = -1
	if found, err := find(unknown); !found || err != nil {
		t.Errorf("nobody knows what the manager has: %v, %v", found, err)
	}
	// "hosts" of daemon.json, beside docker.socket.
	if err := os.Remove(p.socket); err != nil {
		t.Fatal(err)
	}
	own, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	if found, err := find(p); !found || err != nil {
		t.Errorf("it has made a socket of its own in place of that: %v, %v", found, err)
	}
}

func writePid(t *testing.T, file string, pid int) {
	t.Helper()
	if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
}
