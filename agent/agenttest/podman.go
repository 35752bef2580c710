package agenttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Podman is podman on a host, with storage and state of its own, and the CNI
// networks of the host's agent.
type Podman struct {
	Host *Host
	dir  string
}

// Podman sets podman up on the host. Its containers end with the test.
func (h *Host) Podman() *Podman {
	t := h.lab.t
	t.Helper()
	Need(t, "podman", "conmon", "runc", "busybox")
	p := &Podman{Host: h, dir: filepath.Join(h.Dir, "podman")}
	rootfs(t, filepath.Join(p.dir, "tree"))
	if err := os.WriteFile(podmanConf(p.dir), []byte(p.conf()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removePodman(p.dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func podmanConf(dir string) string { return filepath.Join(dir, "containers.conf") }

// conf asks of the machine no more than a container on a small one has: no
// systemd, the limits of the caller, and locks in files, since all podmans of a
// machine share their default lock.
func (p *Podman) conf() string {
	return fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
network_config_dir = %q
`, p.Host.Plugins(), p.Host.Conflists())
}

// podmanLine is the command line of podman with everything below dir.
func podmanLine(dir string, args ...string) []string {
	return append([]string{
		"env", "CONTAINERS_CONF=" + podmanConf(dir),
		"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
		"--storage-driver", "vfs",
	}, args...)
}

// Run runs podman on the host.
func (p *Podman) Run(args ...string) Result {
	return p.Host.NS.Run(podmanLine(p.dir, args...)...)
}

// Must is Run for a command that must succeed; it returns what it printed.
func (p *Podman) Must(args ...string) string {
	t := p.Host.lab.t
	t.Helper()
	r := p.Run(args...)
	if r.Code != 0 {
		t.Fatalf("%s: %s\n%s", p.Host.Name, r, p.Host.LogTail(5))
	}
	return r.Stdout
}

// TryStart runs a container that waits, with more flags for `podman run`.
func (p *Podman) TryStart(name string, flags ...string) Result {
	args := append([]string{"run", "-d", "--name", name}, flags...)
	return p.Run(append(args, "--rootfs", filepath.Join(p.dir, "tree"), "sleep", "1000")...)
}

// Start is TryStart for a container that must run.
func (p *Podman) Start(name string, flags ...string) {
	t := p.Host.lab.t
	t.Helper()
	if r := p.TryStart(name, flags...); r.Code != 0 {
		t.Fatalf("%s: %s\n%s", p.Host.Name, r, p.Host.LogTail(5))
	}
}

// Exec runs a program in a container.
func (p *Podman) Exec(container string, args ...string) Result {
	return p.Run(append([]string{"exec", container}, args...)...)
}

// removePodmans ends the containers of a lab's podmans.
func removePodmans(lab string) error {
	found, err := filepath.Glob(filepath.Join(lab, "h*", "podman"))
	errs := []error{err}
	for _, dir := range found {
		errs = append(errs, removePodman(dir))
	}
	return errors.Join(errs...)
}

// removePodman ends podman's containers. The agent may be dead, and podman's
// complaint about that is no failure: the namespaces go all the same.
func removePodman(dir string) error {
	if _, err := os.Stat(podmanConf(dir)); err != nil {
		return nil
	}
	r := Run("", podmanLine(dir, "rm", "-f", "-t", "0", "-a")...)
	left := Run("", podmanLine(dir, "ps", "-a", "-q")...)
	if left.Code != 0 || left.Stdout != "" {
		return fmt.Errorf("containers of podman are left: %s\n%s", r, left)
	}
	return nil
}
