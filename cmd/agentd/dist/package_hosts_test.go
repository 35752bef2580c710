// Package dist is tested here: the units, the package, its scripts and pages,
// on a Debian that was booted for it.
package dist

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) { agenttest.Main(m) }

// build builds the package as a version.
func build(t *testing.T, dir, version string) string {
	t.Helper()
	agenttest.Need(t, "dpkg-deb")
	r := agenttest.Run("", "./build-deb", dir, version)
	if r.Code != 0 {
		t.Fatalf("%s", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// service stands in for the nginx of the example.
const service = `[Service]
ExecStart=/bin/busybox httpd -f -p 80 -h /srv
`

func TestPackageFromInstallToPurge(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2, Store: agenttest.Consul})
	m := boot(t, l, l.Host(1))
	m.copyIn(build(t, l.Dir, "1.0.0"), "/root/old.deb")
	m.copyIn(build(t, l.Dir, "1.0.1"), "/root/new.deb")

	// Installed it runs, and says what it lacks.
	m.must("dpkg", "-i", "/root/old.deb")
	for _, unit := range []string{"agentd.service", "agentd.socket", "agentd-docker.socket"} {
		m.must("systemctl", "is-enabled", unit)
		m.must("systemctl", "is-active", unit)
	}
	if r := m.run("agentctl", "status"); r.Code != 1 || !strings.Contains(r.Stdout, "not-a-member") {
		t.Errorf("a fresh agent: %s", r)
	}
	if got := m.show("agentd.service", "StatusText"); !strings.HasPrefix(got, "not-a-member: ") {
		t.Errorf("systemctl status says %q", got)
	}
	for path, want := range map[string]string{
		"/run/weft/agentd.sock": "660 root weft", "/run/weft/public.sock": "666 root root", "/run/docker/plugins/weft.sock": "600 root root", "/var/lib/weft": "700 root root",
	} {
		if got := m.must("stat", "-c", "%a %U %G", path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if out := m.must("sh", "-c", "journalctl -o json -u agentd | grep -c '\"PRIORITY\":\"6\"'"); out == "0" {
		t.Error("no line of the journal has the priority of its level")
	}

	join(t, l, m)
	client := serveFromMachine(t, l, m)
	surviveRestarts(t, m, client)
	leaveAndJoinAgain(t, l, m)
	removeAndPurge(t, m)
}

// join makes a cluster of the machine and the other host.
func join(t *testing.T, l *agenttest.Lab, m *machine) {
	t.Helper()
	m.must("agentctl", "init", "--consul", "http://192.0.2.254:8500")
	two := l.Host(2)
	two.Start()
	two.MustCtl("join", l.Host(1).Addr.String(), "--token-file", m.path("/var/lib/weft/join.token"))
	two.AwaitMembers(2)
	m.copyIn(m.path("/var/lib/weft/join.token"), "/root/token")
}

// serveFromMachine does what examples/systemd says, line by line, and returns a
// client on the other host that the service has answered.
func serveFromMachine(t *testing.T, l *agenttest.Lab, m *machine) *agenttest.Sandbox {
	t.Helper()
	m.write("/srv/index.html", "hello from a service\n")
	m.write("/etc/systemd/system/nginx.service", service)
	for _, file := range []string{"web.conf", "weft.conf"} {
		m.copyIn("../../../examples/systemd/"+file, "/root/"+file)
	}
	readme, err := os.ReadFile("../../../examples/systemd/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(readme), "```\n")
	commands, _, _ = strings.Cut(commands, "```")
	if !strings.Contains(commands, "systemctl restart nginx.service") {
		t.Fatalf("the README's commands are:\n%s", commands)
	}
	m.must("sh", "-euxc", "cd /root\n"+commands)

	// One that is stopped takes the service along, and brings it back.
	m.must("systemctl", "stop", "weft-netns@web.service")
	m.must("systemctl", "start", "weft-netns@web.service")
	m.eventually(5*time.Second, "systemctl", "is-active", "nginx.service")
	// What others made is left alone.
	m.must("ip", "netns", "add", "mine")
	m.write("/etc/weft/netns/mine.conf", "blue\n")
	m.write("/etc/weft/netns/weft.conf", "blue\n")
	for _, name := range []string{"mine", "weft"} {
		if m.run("systemctl", "start", "weft-netns@"+name).Code == 0 {
			t.Errorf("weft-netns@%s has started", name)
		}
		m.must("test", "-e", "/run/netns/"+name)
		if got := m.show("weft-netns@"+name, "ActiveState"); got != "failed" {
			t.Errorf("weft-netns@%s is %s, want failed: another try does not help", name, got)
		}
	}
	m.must("ip", "netns", "del", "mine")

	client, a := l.Host(2).Endpoint("blue", "client")
	// A namespace that is made again takes the service along.
	before := m.show("nginx.service", "MainPID")
	m.must("systemctl", "restart", "weft-netns@web.service")
	m.eventually(5*time.Second, "sh", "-c", "systemctl is-active nginx.service && [ $(systemctl show --value -p MainPID nginx.service) != "+before+" ]")
	for _, name := range []string{"web", "www.blue.weft.internal"} {
		agenttest.Eventually(t, 5*time.Second, "the service answers as "+name, func() error {
			r := client.Exec("curl", "-sS", "--max-time", "2", "http://"+name+"/")
			if r.Stdout != "hello from a service\n" {
				return errorOf(r)
			}
			return nil
		})
	}
	// The service itself resolves the names of its network.
	pid := m.show("nginx.service", "MainPID")
	if out := m.must("nsenter", "-t", pid, "-m", "-n", "getent", "ahostsv4", "client"); !strings.Contains(out, a.Addr().String()) {
		t.Errorf("client is %q for the service, want %s", out, a.Addr())
	}
	// A namespace without a name, of a process of somebody else.
	m.must("systemd-run", "-q", "--unit=alone", "--service-type=exec", "--uid=nobody", "-p", "PrivateNetwork=yes", "sleep", "600")
	m.must("agentctl", "attach", "blue", "--pid", m.show("alone.service", "MainPID"), "--name", "alone")
	m.must("agentctl", "detach", "blue", "alone")
	// What the agent made inside its sandbox's view is there for everybody.
	m.must("ip", "netns", "exec", "weft", "ip", "link", "show", "type", "vxlan")
	return client
}

// surviveRestarts ends the agent in every way while packets flow.
func surviveRestarts(t *testing.T, m *machine, client *agenttest.Sandbox) {
	t.Helper()
	web, err := client.Getent("web")
	if err != nil {
		t.Fatal(err)
	}
	p, start := client.StartPing(web[0]), time.Now()
	again := func(how string, command ...string) {
		t.Helper()
		before := m.show("agentd.service", "MainPID")
		m.must(command...)
		agenttest.Eventually(t, 20*time.Second, how+": another agent", func() error {
			r := m.run("agentctl", "status")
			if pid := m.show("agentd.service", "MainPID"); pid == before || pid == "0" || r.Code != 0 ||
				m.show("agentd.service", "ActiveState") != "active" {
				return errorOf(r)
			}
			return nil
		})
		p.AwaitReplies(5)
	}
	again("upgrade", "dpkg", "-i", "/root/new.deb")
	again("crash", "systemctl", "kill", "-s", "KILL", "agentd")
	again("panic", "systemctl", "kill", "-s", "QUIT", "agentd")
	m.write("/etc/systemd/system/agentd.service.d/quick.conf", "[Service]\nWatchdogSec=1s\n")
	m.must("systemctl", "daemon-reload")
	again("restart", "systemctl", "restart", "agentd")
	again("hung", "systemctl", "kill", "-s", "STOP", "agentd")
	if got := m.must("sh", "-c", "journalctl -u agentd | grep -c 'Watchdog timeout'"); got == "0" {
		t.Error("it was not the watchdog that restarted the stopped agent")
	}
	m.must("rm", "-r", "/etc/systemd/system/agentd.service.d")
	m.must("systemctl", "daemon-reload")

	// A wrong configuration ends it, once.
	m.must("sh", "-c", "cp /etc/weft/agentd.yaml /root/right.yaml; echo 'banana: 1' >>/etc/weft/agentd.yaml")
	m.run("systemctl", "restart", "agentd.service")
	m.eventually(10*time.Second, "sh", "-c", "[ $(systemctl show --value -p ActiveState agentd.service) = failed ]")
	m.must("cp", "/root/right.yaml", "/etc/weft/agentd.yaml")
	again("after a wrong configuration", "systemctl", "restart", "agentd.service")

	m.must("systemctl", "reload", "agentd")
	m.eventually(5*time.Second, "sh", "-c", "journalctl -u agentd | grep 'configuration reloaded'")
	// Stopped, it is started again by who needs it: systemd kept the socket.
	again("stop, and a call", "systemctl", "stop", "agentd.service")
	p.AssertNoLoss(time.Since(start))
	m.must("systemctl", "is-active", "nginx.service", "weft-netns@web.service")
}

// leaveAndJoinAgain shows that the fabric, which a sandboxed agent cannot make,
// outlives a membership.
func leaveAndJoinAgain(t *testing.T, l *agenttest.Lab, m *machine) {
	t.Helper()
	m.must("systemctl", "stop", "weft-netns@web.service")
	if m.run("systemctl", "is-active", "nginx.service").Code == 0 {
		t.Error("the service runs on without its namespace")
	}
	two := l.Host(2)
	agenttest.Eventually(t, 5*time.Second, "the endpoint is gone everywhere", func() error {
		if r := two.Ctl("endpoint", "ls", "--network", "blue"); strings.Contains(r.Stdout, "web") {
			return errorOf(r)
		}
		return nil
	})
	m.eventually(5*time.Second, "sh", "-c", "[ ! -e /etc/netns/web ]")
	m.must("agentctl", "leave")
	m.must("agentctl", "join", two.Addr.String(), "--token-file", "/root/token")
	m.eventually(5*time.Second, "systemctl", "start", "weft-netns@web.service")
	m.must("ip", "netns", "exec", "weft", "ip", "link", "show", "type", "vxlan")
	m.must("systemctl", "stop", "weft-netns@web.service")
}

// removeAndPurge: remove stops the agent and keeps what it knows and made; purge
// leaves nothing.
func removeAndPurge(t *testing.T, m *machine) {
	t.Helper()
	m.must("dpkg", "-r", "weft")
	for _, kept := range []string{"/run/netns/weft", "/var/lib/weft/cluster.json", "/etc/weft/agentd.yaml"} {
		m.must("test", "-e", kept)
	}
	m.must("dpkg", "-i", "/root/new.deb")
	m.eventually(20*time.Second, "agentctl", "status")
	m.must("dpkg", "-P", "weft")
	for _, gone := range []string{"/run/netns/weft", "/run/weft", "/var/lib/weft", "/etc/weft", "/run/docker/plugins/weft.sock"} {
		if _, err := os.Lstat(m.path(gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if out := m.must("sh", "-c", "ip -o link; find /etc/systemd -name '*agentd*'; nsenter --net=/proc/1/ns/net ip -br link"); strings.Contains(out, "weft") || strings.Contains(out, "agentd") {
		t.Errorf("left over: %s", out)
	}
	m.must("systemctl", "daemon-reload")
	if out := m.must("systemctl", "list-units", "--all", "--plain", "--no-legend", "agentd*"); out != "" {
		t.Errorf("units left over: %s", out)
	}
}

func errorOf(r agenttest.Result) error { return errors.New(r.String()) }

// An image is built in a chroot, without a service manager: nothing is started
// there, and a purge does not reach for the kernel of who builds it.
func TestPackageInAnImageThatIsBuilt(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "unshare", "ip")
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.Start()
	h.MustCtl("init")
	h.CreateNetwork("blue")
	h.Endpoint("blue", "web")
	links := l.Monitor(h.NS, "link", "address", "route")
	dir := t.TempDir()
	deb := build(t, dir, "1.0.0")
	r := agenttest.Run("", h.NS.Enter("unshare", "--mount", "sh", "-euc", `
		cd "$1" && mkdir upper work root
		mount -t overlay overlay -o lowerdir="$2",upperdir=upper,workdir=work root
		cp "$3" root/weft.deb
		mount -t proc proc root/proc
		export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
		chroot root dpkg -i /weft.deb
		chroot root getent group weft
		chroot root systemctl is-enabled agentd.service agentd.socket agentd-docker.socket
		chroot root dpkg -P weft
		for left in etc/weft var/lib/weft lib/systemd/system/agentd.service; do [ ! -e root/$left ]; done
		[ -z "$(find root/etc/systemd -name '*agentd*')" ]`, "sh", dir, debian(t), deb)...)
	if r.Code != 0 {
		t.Errorf("%s", r)
	}
	if deleted := agenttest.Deleted(links.Stop()); len(deleted) > 0 {
		t.Errorf("deleted on the host that builds the image: %q", deleted)
	}
}
