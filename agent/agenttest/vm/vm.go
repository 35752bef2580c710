// Package vm boots a whole machine for a test: Debian 12's own kernel, which is older
// than the one that the tests run on, under QEMU's emulation. It needs no KVM. What is
// emulated is ten to fifty times slower, so its times mean nothing: a test waits for
// conditions there.
//
// The machine's root is the Debian tree that .ci/install makes, read-only, below a layer
// in memory or on a disk image. The image outlives the machine, as a disk does a reboot
// or a power cut. A folder of the lab is /w in it, over 9p, which is too slow for
// programs.
package vm

import (
	_ "embed"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Config describes a machine. Its zero value has a shell as process 1, writes to memory,
// and has no network but its own loopback.
type Config struct {
	Name    string     // its host name; empty is debian
	Addr    netip.Addr // on the underlay of the lab, with a length of 24; invalid: no network device
	Systemd bool       // process 1 is systemd
	Disk    bool       // what it writes goes to a disk image of its own
	Without []string   // modules that this kernel has not
	Memory  int        // in MiB; 0 is 1536
}

// Machine is a machine that runs, or one that is switched off and has its disk.
type Machine struct {
	// Share is the folder of the lab that the machine sees as /w. Both write to it.
	Share string

	t    testing.TB
	lab  *agenttest.Lab
	cfg  Config
	dir  string
	done chan struct{} // closed when the emulator has ended
	qemu *exec.Cmd
	port port
}

// bootLimit is far above what a machine takes to boot on two busy cores.
const bootLimit = 4 * time.Minute

//go:embed exec.sh
var execScript string

//go:embed exec.service
var execUnit string

// Boot makes a machine and starts it. It returns when the machine runs what it is
// asked to, and ends it with the test.
func Boot(t testing.TB, l *agenttest.Lab, cfg Config) *Machine {
	t.Helper()
	agenttest.Need(t, "qemu-system-x86_64", "modprobe", "cpio", "busybox", "mkfs.ext4")
	if cfg.Name == "" {
		cfg.Name = "debian"
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1536
	}
	dir := filepath.Join(l.Dir, "vm-"+cfg.Name)
	m := &Machine{Share: filepath.Join(dir, "w"), t: t, lab: l, cfg: cfg, dir: dir}
	m.check(os.MkdirAll(m.Share, 0o755))
	m.check(os.WriteFile(filepath.Join(m.Share, "exec.sh"), []byte(execScript), 0o644))
	m.check(os.WriteFile(filepath.Join(m.Share, "exec.service"), []byte(execUnit), 0o644))
	if cfg.Disk {
		must(m.t, "truncate", "-s", "8G", m.path("disk"))
		must(m.t, "mkfs.ext4", "-q", "-F", m.path("disk"))
	}
	if cfg.Addr.IsValid() {
		l.Switch.Must(t, "ip", "tuntap", "add", "dev", cfg.Name, "mode", "tap")
		l.Switch.Must(t, "ip", "link", "set", cfg.Name, "master", "br0", "up")
	}
	m.initrd()
	t.Cleanup(m.end)
	m.Start()
	return m
}

// Start switches the machine on.
func (m *Machine) Start() {
	m.t.Helper()
	os.Remove(m.path("port"))
	listener, err := net.Listen("unix", m.path("port"))
	m.check(err)
	defer listener.Close()
	console, err := os.OpenFile(m.path("console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	m.check(err)
	defer console.Close()
	m.qemu = exec.Command("nsenter", m.emulator()...)
	m.qemu.Stdout, m.qemu.Stderr = console, console
	// The emulator must not outlive this process. The kernel sends the signal when the
	// thread that started it ends: so one thread starts it and waits for it.
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	m.done = done
	go func() {
		runtime.LockOSThread()
		defer close(done)
		err := m.qemu.Start()
		started <- err
		if err == nil {
			m.qemu.Wait()
		}
	}()
	m.check(<-started)
	if err := m.port.open(listener.(*net.UnixListener), bootLimit, done); err != nil {
		m.t.Fatalf("the machine does not boot: %v\n%s", err, m.Console(40))
	}
}

// emulator is the command line of nsenter that starts QEMU.
func (m *Machine) emulator() []string {
	args := []string{"--net=" + m.lab.Switch.Path(), "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
		"-m", fmt.Sprint(m.cfg.Memory), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", filepath.Join(kernel(m.t), "boot", "vmlinuz-"+version(m.t)), "-initrd", m.path("initrd"),
		"-append", "console=ttyS0 quiet panic=1 mitigations=off no_timer_check apparmor=0 selinux=0 net.ifnames=0 systemd.show_status=0",
		"-drive", "if=virtio,format=raw,readonly=on,file=" + agenttest.Cached(m.t, "debian-12.img"),
		"-virtfs", "local,mount_tag=share,security_model=none,path=" + m.Share,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=port,path=" + m.path("port"), "-device", "virtserialport,chardev=port"}
	if m.cfg.Disk {
		args = append(args, "-drive", "if=virtio,format=raw,file="+m.path("disk"))
	}
	if m.cfg.Addr.IsValid() {
		args = append(args, "-netdev", "tap,id=net,script=no,downscript=no,ifname="+m.cfg.Name, "-device", "virtio-net-pci,netdev=net")
	}
	return args
}

// CutPower ends the machine at once: what it has not written to its disk is lost.
func (m *Machine) CutPower() {
	m.qemu.Process.Kill()
	<-m.done
	m.port.close()
}

// Reboot asks process 1, which is systemd, for a reboot and waits until the machine is up
// again.
func (m *Machine) Reboot() {
	m.t.Helper()
	m.Run("systemctl", "reboot") // may end before it answers
	select {
	case <-m.done:
	case <-time.After(bootLimit):
		m.t.Fatalf("the machine does not go down:\n%s", m.Console(40))
	}
	m.port.close()
	m.Start()
}

// Console is the end of what the machine wrote to its serial console.
func (m *Machine) Console(lines int) string {
	b, err := os.ReadFile(m.path("console"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// end shows what a failed test needs, and ends the machine.
func (m *Machine) end() {
	if m.t.Failed() {
		if m.cfg.Systemd {
			m.t.Logf("journal:\n%s", m.Run("journalctl", "--no-pager", "-o", "short-precise", "-n", "300").Stdout)
		}
		m.t.Logf("console:\n%s", m.Console(40))
	}
	m.CutPower()
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *Machine) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// must runs a program on the outside.
func must(t testing.TB, args ...string) string {
	t.Helper()
	r := agenttest.Run("", args...)
	if r.Code != 0 {
		t.Fatalf("%s", r)
	}
	return r.Stdout
}
