package dist

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// machine is a Debian that was booted in a container, whose network is a host
// of a lab: systemd is its process 1, sandboxes and all.
type machine struct {
	t      *testing.T
	leader string // its process 1, as seen from outside
}

// debian is the tree that .ci/install makes.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := filepath.EvalSymlinks(filepath.Join(cache, "weft", "debian-12"))
	if err != nil {
		t.Skipf("this test boots a Debian: run .ci/install test: %v", err)
	}
	return tree
}

// boot starts a machine on h. What it writes is gone with it: the tree is the
// lower layer of its root, which is mounted where only the machine sees it.
func boot(t *testing.T, l *agenttest.Lab, h *agenttest.Host) *machine {
	t.Helper()
	agenttest.Need(t, "systemd-nspawn", "unshare")
	dir := filepath.Join(l.Dir, "machine")
	for _, d := range []string{"upper/etc", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "upper", "etc", "hostname"), []byte(h.Name+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	// Its process 1 makes control groups: below one of its own.
	script := fmt.Sprintf(`set -e
		for c in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
			[ -e $c/cgroup.procs ] || continue
			mkdir $c/%[1]s
			echo $$ >$c/%[1]s/cgroup.procs
		done
		mount -t overlay overlay -o lowerdir=%[2]s,upperdir=%[3]s/upper,workdir=%[3]s/work %[3]s/root
		exec systemd-nspawn --quiet --register=no --keep-unit --boot --console=pipe --resolv-conf=off \
			--capability=all --network-namespace-path=%[4]s --machine=%[1]s -D %[3]s/root`,
		l.ID, debian(t), dir, h.NS.Path())
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script)
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t}
	t.Cleanup(func() { m.off(l.ID, cmd) })
	agenttest.Eventually(t, 60*time.Second, "the machine is up", func() error {
		// The first children of nspawn prepare the container.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil || len(b) == 0 {
			return fmt.Errorf("no process 1: %v\n%s", err, read(console.Name()))
		}
		m.leader = strings.Fields(string(b))[0]
		if r := m.run("systemctl", "is-system-running"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	return m
}

// off ends the machine at once and removes its control groups.
func (m *machine) off(id string, cmd *exec.Cmd) {
	if m.t.Failed() && m.leader != "" {
		m.t.Logf("journal:\n%s", m.run("journalctl", "--no-pager", "-o", "short-precise", "-n", "80").Stdout)
	}
	if pid, err := strconv.Atoi(m.leader); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, c := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/systemd/", "/sys/fs/cgroup/unified/"} {
		if _, err := agenttest.Await(5*time.Second, func() error { return removeGroups(c + id) }); err != nil {
			m.t.Errorf("remove %s%s: %v", c, id, err)
		}
	}
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func removeGroups(path string) error {
	below, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	for _, d := range below {
		if d.IsDir() {
			if err := removeGroups(filepath.Join(path, d.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(path)
}

// run runs a program inside the machine, as a login of root there.
func (m *machine) run(args ...string) agenttest.Result {
	return agenttest.Run("", append([]string{"nsenter", "-t", m.leader, "-m", "-u", "-i", "-n", "-p", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
}

// must is run for a program that must succeed; it returns what it printed.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	r := m.run(args...)
	if r.Code != 0 {
		m.t.Fatalf("%s", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// eventually runs a program until it succeeds.
func (m *machine) eventually(within time.Duration, args ...string) {
	m.t.Helper()
	agenttest.Eventually(m.t, within, strings.Join(args, " "), func() error {
		if r := m.run(args...); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// path is a file of the machine, as seen from outside.
func (m *machine) path(name string) string { return filepath.Join("/proc", m.leader, "root", name) }

func (m *machine) write(name, content string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// copyIn puts a file from outside into the machine.
func (m *machine) copyIn(from, name string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(name, string(b))
}

// show is a property of a unit.
func (m *machine) show(unit, property string) string {
	m.t.Helper()
	return m.must("systemctl", "show", "--value", "-p", property, unit)
}
