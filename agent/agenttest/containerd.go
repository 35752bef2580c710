package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Containerd is a containerd on a host, used by its own command ctr.
type Containerd struct {
	Host *Host
	// Tree is the root directory of its containers. ctr writes no resolv.conf:
	// Tree/etc/resolv.conf is the test's.
	Tree string

	dir string
}

// Containerd starts containerd on the host. It ends with the test; its shims and
// containers, below processes of the host, with the lab.
func (h *Host) Containerd() *Containerd {
	t := h.lab.t
	t.Helper()
	Need(t, "containerd", "ctr", "runc", "busybox", "unshare")
	c := &Containerd{Host: h, dir: filepath.Join(h.Dir, "containerd")}
	c.Tree = rootfs(t, filepath.Join(c.dir, "tree"))
	conf := filepath.Join(c.dir, "config.toml")
	if err := os.WriteFile(conf, []byte(c.conf()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, filepath.Join(c.dir, "log"), nil, h.NS.Enter("containerd", "--config", conf)...)
	t.Cleanup(func() {
		if err := p.signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	})
	Eventually(t, 20*time.Second, h.Name+": containerd answers", func() error {
		if r := c.Ctr("version"); r.Code != 0 {
			return fmt.Errorf("%s\n%s", r, tail(p.log, 5))
		}
		return nil
	})
	return c
}

func (c *Containerd) conf() string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = %q
`, filepath.Join(c.dir, "root"), filepath.Join(c.dir, "state"), containerdSocket(c.dir))
}

func containerdSocket(dir string) string { return filepath.Join(dir, "sock") }

// containerdNamespace is unique on the machine: it names cgroups as well.
func containerdNamespace(dir string) string {
	host := filepath.Dir(dir)
	return filepath.Base(filepath.Dir(host)) + "-" + filepath.Base(host)
}

// Ctr runs ctr on the host. It looks for CNI configurations and plugins in two
// fixed places, which are the host's own in a mount namespace.
func (c *Containerd) Ctr(args ...string) Result {
	const line = `mkdir -p /etc/cni/net.d && mount -t tmpfs tmpfs /opt && mkdir -p /opt/cni/bin &&
		mount --bind "$1" /etc/cni/net.d && mount --bind "$2" /opt/cni/bin && shift 2 && exec ctr "$@"`
	if err := os.MkdirAll(c.Host.Conflists(), 0o755); err != nil {
		c.Host.lab.t.Fatal(err)
	}
	full := []string{"unshare", "-m", "sh", "-c", line, "sh", c.Host.Conflists(), c.Host.Plugins(),
		"-a", containerdSocket(c.dir), "-n", containerdNamespace(c.dir)}
	return c.Host.NS.Run(append(full, args...)...)
}

// Name is what a container is called in DNS: ctr gives no name, but an id made
// of the namespace and the container.
func (c *Containerd) Name(container string) string {
	return containerdNamespace(c.dir) + "-" + container
}

// Start runs a container that waits, on the first network in the alphabet.
func (c *Containerd) Start(name string) {
	t := c.Host.lab.t
	t.Helper()
	if r := c.Ctr("run", "-d", "--cni", "--runc-root", filepath.Join(c.dir, "runc"), "--rootfs", c.Tree, name, "/bin/sleep", "1000"); r.Code != 0 {
		t.Fatalf("%s: %s\n%s", c.Host.Name, r, c.Host.LogTail(5))
	}
}

// Exec runs a program of /bin in a container, in which ctr sets no PATH.
func (c *Containerd) Exec(container string, args ...string) Result {
	args = append([]string{"/bin/" + args[0]}, args[1:]...)
	return c.Ctr(append([]string{"task", "exec", "--exec-id", "exec" + fmt.Sprint(time.Now().UnixNano()), container}, args...)...)
}

// Stop ends a container. ctr calls DEL only for one that it waits for: of this
// one the namespace goes, and nobody is told.
func (c *Containerd) Stop(name string) {
	t := c.Host.lab.t
	t.Helper()
	for _, args := range [][]string{{"task", "kill", "-s", "SIGKILL", name}, {"task", "delete", name}, {"container", "delete", name}} {
		Eventually(t, 5*time.Second, strings.Join(args, " "), func() error {
			if r := c.Ctr(args...); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
}
