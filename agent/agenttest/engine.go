package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Debian's programs: another docker in the path may be newer than the engine.
const (
	dockerd = "/usr/sbin/dockerd"
	docker  = "/usr/bin/docker"
)

// Image is the image that every Engine has: busybox under all of its names.
const Image = "busybox"

// Engine is a Docker daemon on a host: it shares the host's network, and has a
// /run, an /etc/docker and a resolv.conf of its own.
type Engine struct {
	Host *Host
	Dir  string

	t       testing.TB
	command []string // the daemon, and what it always needs
	holder  *process // keeps the mount namespace over restarts of the daemon
	daemon  *process
}

// NewEngine prepares a Docker daemon for the host, Debian's, and does not start
// it.
func (h *Host) NewEngine() *Engine {
	h.lab.t.Helper()
	return h.newEngine(dockerd)
}

// NewNewestEngine is NewEngine with the newest engine there is.
func (h *Host) NewNewestEngine() *Engine {
	h.lab.t.Helper()
	// Debian's runc knows no time namespaces, and its docker-proxy is another's.
	return h.newEngine(Cached(h.lab.t, "dockerd-29"), "--feature", "time-namespaces=false", "--userland-proxy=false")
}

func (h *Host) newEngine(program string, flags ...string) *Engine {
	t := h.lab.t
	t.Helper()
	Need(t, program, docker, "runc", "busybox", "tar")
	e := &Engine{Host: h, Dir: h.dockerDir(), command: append([]string{program}, flags...), t: t}
	if err := os.MkdirAll(filepath.Join(e.Dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.ResolvConf("nameserver " + RouterAddr.String())
	e.DaemonJSON("{}")
	// A lasting namespace of mounts: with a fresh /run the daemon would not find
	// the sandboxes and shims of its earlier life.
	e.holder = start(t, filepath.Join(e.Dir, "holder.log"), nil, h.NS.Enter("unshare", "--mount", "--uts", "sh", "-ec", `
		mount -t tmpfs tmpfs /run
		mkdir -p /run/docker/plugins
		ln -s "$2" /run/docker/plugins/weft.sock
		mount --bind "$1/etc" /etc/docker
		mount --bind "$1/resolv.conf" /etc/resolv.conf
		hostname "$3"
		touch "$1/ready"
		exec sleep infinity`, "sh", e.Dir, e.PluginSocket(), h.Name)...)
	Eventually(t, 10*time.Second, h.Name+": a place for dockerd", func() error {
		_, err := os.Stat(filepath.Join(e.Dir, "ready"))
		return err
	})
	t.Cleanup(e.clean)
	return e
}

// Socket is where the daemon answers.
func (e *Engine) Socket() string { return filepath.Join(e.Dir, "docker.sock") }

// PluginSocket is where the daemon looks for weft.
func (e *Engine) PluginSocket() string { return filepath.Join(e.Dir, "weft.sock") }

// ResolvConf writes the host's resolv.conf, as the daemon sees it from its next
// container on. The file stays the same one: it is mounted.
func (e *Engine) ResolvConf(text string) { e.write(filepath.Join(e.Dir, "resolv.conf"), text) }

// DaemonJSON writes the daemon's configuration, for its next start.
func (e *Engine) DaemonJSON(text string) { e.write(filepath.Join(e.Dir, "etc", "daemon.json"), text) }

// File is what a file below Dir holds.
func (e *Engine) File(name string) string {
	e.t.Helper()
	b, err := os.ReadFile(filepath.Join(e.Dir, name))
	if err != nil {
		e.t.Fatal(err)
	}
	return string(b)
}

func (e *Engine) write(path, text string) {
	e.t.Helper()
	if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
		e.t.Fatal(err)
	}
}

// enter is the command line that runs args where the daemon does.
func (e *Engine) enter(args ...string) []string {
	return append([]string{"nsenter", "-t", fmt.Sprint(e.holder.cmd.Process.Pid), "--mount", "--uts", "--net"}, args...)
}

// Launch starts the daemon and does not wait for it.
func (e *Engine) Launch(flags ...string) {
	e.t.Helper()
	e.daemon = start(e.t, e.log(), nil, e.enter(slices.Concat(e.command, []string{
		"--data-root", filepath.Join(e.Dir, "data"), "--exec-root", filepath.Join(e.Dir, "exec"),
		"--pidfile", filepath.Join(e.Dir, "pid"), "-H", "unix://" + e.Socket(),
		"--storage-driver", "overlay2", "--cgroup-parent", "/" + e.cgroup()}, flags)...)...)
}

// Start starts the daemon and waits until it is ready.
func (e *Engine) Start(flags ...string) {
	e.t.Helper()
	e.Launch(flags...)
	e.Ready()
}

// Ready waits until the daemon answers, and gives it the image.
func (e *Engine) Ready() {
	e.t.Helper()
	e.AwaitAPI()
	if e.Docker("image", "inspect", Image).Code != 0 {
		e.importImage()
	}
}

// AwaitAPI waits until the daemon answers.
func (e *Engine) AwaitAPI() {
	e.t.Helper()
	Eventually(e.t, 2*time.Minute, e.Host.Name+": dockerd", func() error {
		if !e.daemon.running() {
			e.t.Fatalf("%s: dockerd ended: %v\n%s", e.Host.Name, e.daemon.err, e.LogTail(20))
		}
		if r := e.Docker("version"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// Stop ends the daemon as a service manager does. With live-restore its
// containers go on.
func (e *Engine) Stop() { e.end(syscall.SIGTERM) }

// Kill ends it as kill -9 does.
func (e *Engine) Kill() { e.end(syscall.SIGKILL) }

func (e *Engine) end(s syscall.Signal) {
	e.t.Helper()
	if e.daemon == nil {
		return
	}
	if err := e.daemon.signal(s); err != nil {
		e.t.Errorf("%s: %v", e.Host.Name, err)
	}
	e.daemon = nil
	if s == syscall.SIGKILL {
		e.buryContainerd()
	}
}

// buryContainerd makes sure that a killed daemon's containerd, which the kernel
// ends with it, is known to be dead: a process number that nobody has collected
// yet would be taken for a running one at the daemon's next start.
func (e *Engine) buryContainerd() {
	e.t.Helper()
	file := filepath.Join(e.Dir, "exec", "containerd", "containerd.pid")
	pid, err := os.ReadFile(file)
	if err != nil {
		return // not started yet
	}
	Eventually(e.t, 10*time.Second, e.Host.Name+": the end of containerd", func() error {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("%s", stat)
		}
		return nil
	})
	if err := os.Remove(file); err != nil {
		e.t.Error(err)
	}
}

// Docker runs the docker command against this daemon.
func (e *Engine) Docker(args ...string) Result {
	e.t.Helper()
	return Run("", append([]string{docker, "-H", "unix://" + e.Socket()}, args...)...)
}

// Must is Docker for a command that must succeed; it returns what it printed,
// without the white space around it.
func (e *Engine) Must(args ...string) string {
	e.t.Helper()
	r := e.Docker(args...)
	if r.Code != 0 {
		e.t.Fatalf("%s: %s\n%s", e.Host.Name, r, e.LogTail(10))
	}
	return strings.TrimSpace(r.Stdout)
}

// Detached runs a container that waits for its end, and returns its id.
func (e *Engine) Detached(name string, flags ...string) string {
	e.t.Helper()
	args := append([]string{"run", "-d", "--name", name}, flags...)
	return e.Must(append(args, Image, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")...)
}

func (e *Engine) log() string { return filepath.Join(e.Dir, "dockerd.log") }

// LogTail is the last lines that the daemon logged.
func (e *Engine) LogTail(lines int) string { return tail(e.log(), lines) }

func (e *Engine) cgroup() string { return string(e.Host.NS) }

// importImage gives the daemon an image of busybox and ping.
func (e *Engine) importImage() {
	e.t.Helper()
	root := rootfs(e.t, filepath.Join(e.Dir, "image"))
	must(e.t, "sh", "-ec", `tar -C "$1" -c . | "$2" -H "unix://$3" import -c 'CMD ["sh"]' - "$4"`, "sh",
		root, docker, e.Socket(), Image)
	if err := os.RemoveAll(root); err != nil {
		e.t.Error(err)
	}
}

// clean removes the containers and ends the daemon. What it cannot remove, the
// lab's end does: every process below a process of the host is killed.
func (e *Engine) clean() {
	if e.t.Failed() && e.daemon != nil {
		e.t.Logf("end of the log of dockerd on %s:\n%s", e.Host.Name, e.LogTail(40))
	}
	if e.daemon != nil {
		Run("", "sh", "-c", `"$1" -H "unix://$2" ps -aq | xargs -r "$1" -H "unix://$2" rm -f`, "sh", docker, e.Socket())
	}
	e.Stop()
	if err := e.holder.signal(syscall.SIGKILL); err != nil {
		e.t.Error(err)
	}
}

// Sandbox is a running container's network namespace under a name of the lab,
// so that tests send and ask from inside it. A restarted container has another.
func (e *Engine) Sandbox(container string) *Sandbox {
	e.t.Helper()
	pid := e.Must("inspect", "-f", "{{.State.Pid}}", container)
	name := Netns(fmt.Sprintf("%s-c-%s-%s", e.Host.NS, container, pid))
	if _, err := os.Stat(name.Path()); err != nil {
		must(e.t, "ip", "netns", "attach", string(name), pid)
	}
	return &Sandbox{NS: name, Host: e.Host}
}
