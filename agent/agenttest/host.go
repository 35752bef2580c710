package agenttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Host is one host of a lab: a namespace with an address on the underlay, and
// an agent.
type Host struct {
	Name   string // h1, h2, …
	NS     Netns
	Fabric Netns // that the agent makes
	Addr   netip.Addr
	Dir    string   // run and data directory of the agent
	More   []string // flags that the agent gets besides
	Follow bool     // the agent is not told its address: it takes that of the default route

	lab   *Lab
	agent *process
}

func newHost(l *Lab, number int) *Host {
	name := fmt.Sprintf("h%d", number)
	return &Host{
		Name:   name,
		NS:     Netns(l.ID + "-" + name),
		Fabric: Netns(fmt.Sprintf("%s-f%d", l.ID, number)),
		Addr:   netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}),
		Dir:    filepath.Join(l.Dir, name),
		lab:    l,
	}
}

// Socket is the path of the agent's API socket.
func (h *Host) Socket() string { return filepath.Join(h.Dir, "run", "agentd.sock") }

// Flags are the agent's, as a user of several agents on one machine gives them.
func (h *Host) Flags() []string {
	flags := []string{
		"--name", h.Name,
		"--run-dir", filepath.Join(h.Dir, "run"),
		"--data-dir", filepath.Join(h.Dir, "data"),
		"--fabric", string(h.Fabric),
		"--cni-conf-dir", h.Conflists(),
		"--docker-socket", filepath.Join(h.dockerDir(), "docker.sock"),
		"--docker-daemon-json", filepath.Join(h.dockerDir(), "etc", "daemon.json"),
		"--docker-plugin-socket", filepath.Join(h.dockerDir(), "weft.sock"),
		"--log-level", "debug",
	}
	if !h.Follow {
		flags = append(flags, "--advertise", h.Addr.String())
	}
	if h.lab.cfg.Store == Embedded {
		flags = append(flags, "--embedded-store", h.lab.StoreSocket())
	}
	return append(flags, h.More...)
}

// dockerDir holds what belongs to the host's Docker engine.
func (h *Host) dockerDir() string { return filepath.Join(h.Dir, "docker") }

// StoreSocket is the unix socket over which the agents share the embedded store.
func (l *Lab) StoreSocket() string { return filepath.Join(l.Dir, "store.sock") }

// programs is the directory of the lab's.
func (h *Host) programs() string {
	if dir := h.lab.cfg.Programs; dir != "" {
		return dir
	}
	return Programs(h.lab.t)
}

// Agentd is the command line of the agent inside the host, with more flags.
func (h *Host) Agentd(args ...string) []string {
	return h.NS.Enter(append([]string{filepath.Join(h.programs(), "agentd")}, args...)...)
}

// Move gives the host another address in the place of the one it has.
func (h *Host) Move(to netip.Addr) {
	h.lab.t.Helper()
	h.NS.batch(h.lab.t,
		"addr del "+h.Addr.String()+"/24 dev eth0",
		"addr add "+to.String()+"/24 dev eth0",
		"route add default via "+RouterAddr.String())
	h.Addr = to
}

// Launch starts the agent. It does not wait for it.
func (h *Host) Launch() {
	t := h.lab.t
	t.Helper()
	for _, d := range []string{"run", "data"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.agent = start(t, h.log(), nil, h.Agentd(h.Flags()...)...)
}

// Start starts the agent and waits until its API answers.
func (h *Host) Start() {
	h.lab.t.Helper()
	h.Launch()
	h.AwaitAPI()
}

// AwaitAPI waits until the agent answers.
func (h *Host) AwaitAPI() {
	h.lab.t.Helper()
	Eventually(h.lab.t, 20*time.Second, h.Name+": the agent's API", func() error {
		if !h.Running() {
			h.lab.t.Fatalf("%s: agentd ended: %v\n%s", h.Name, h.agent.err, h.LogTail(20))
		}
		// A host that is not yet a member has a status too: exit 1.
		if r := h.Ctl("status"); r.Code != 0 && r.Code != 1 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// Running reports whether the agent's process is there.
func (h *Host) Running() bool { return h.agent != nil && h.agent.running() }

// PID is the agent's process number.
func (h *Host) PID() int { return h.agent.cmd.Process.Pid }

// Kill ends the agent as kill -9 does. The kernel keeps what it programmed.
func (h *Host) Kill() { h.end(syscall.SIGKILL) }

// Stop ends the agent as a service manager does.
func (h *Host) Stop() { h.end(syscall.SIGTERM) }

func (h *Host) end(s syscall.Signal) {
	h.lab.t.Helper()
	if h.agent == nil {
		return
	}
	if err := h.agent.signal(s); err != nil {
		h.lab.t.Errorf("%s: %v", h.Name, err)
	}
	h.agent = nil
}

func (h *Host) log() string { return filepath.Join(h.Dir, "agentd.log") }

// LogTail is the last lines that the agent logged.
func (h *Host) LogTail(lines int) string { return tail(h.log(), lines) }

// Ctl runs agentctl inside the host, talking to its agent.
func (h *Host) Ctl(args ...string) Result {
	h.lab.t.Helper()
	line := append([]string{filepath.Join(h.programs(), "agentctl"), "--socket", h.Socket()}, args...)
	return h.NS.Run(line...)
}

// MustCtl is Ctl for a command that must succeed; it returns its answer.
func (h *Host) MustCtl(args ...string) string {
	h.lab.t.Helper()
	r := h.Ctl(args...)
	if r.Code != 0 {
		h.lab.t.Fatalf("%s: %s", h.Name, r)
	}
	return r.Stdout
}

// CtlJSON decodes the answer of a command that must succeed. The command is
// given its `-o json` by the caller, since `network create` means another -o.
func (h *Host) CtlJSON(into any, args ...string) {
	h.lab.t.Helper()
	out := h.MustCtl(args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		h.lab.t.Fatalf("%s: agentctl %s: %v in %q", h.Name, strings.Join(args, " "), err, out)
	}
}

// Member is one row of `agentctl members -o json`.
type Member struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address"`
	Status  string `json:"status"`
}

// Members is what this host sees, by name.
func (h *Host) Members() map[string]Member {
	h.lab.t.Helper()
	var rows []Member
	h.CtlJSON(&rows, "members", "-o", "json")
	members := map[string]Member{}
	for _, m := range rows {
		members[m.Name] = m
	}
	return members
}

var storeAway = regexp.MustCompile(`(?m)^store +FAIL`)

// AwaitMembers waits until this host sees that many alive members, itself
// among them, and has read what they have.
func (h *Host) AwaitMembers(alive int) {
	h.lab.t.Helper()
	Eventually(h.lab.t, 15*time.Second, fmt.Sprintf("%s: %d members alive", h.Name, alive), func() error {
		n := 0
		members := h.Members()
		for _, m := range members {
			if m.Status == "alive" {
				n++
			}
		}
		if n != alive {
			return fmt.Errorf("%d alive in %v", n, members)
		}
		// One without its store starts for as long as it may.
		if r := h.Ctl("status"); strings.HasPrefix(r.Stdout, h.Name+": starting") && !storeAway.MatchString(r.Stdout) {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// Init makes this host the first member.
func (h *Host) Init() {
	h.lab.t.Helper()
	args := []string{"init", "-o", "json"}
	if h.lab.cfg.Store == Consul {
		args = append(args, "--consul", consulURL)
	}
	h.MustCtl(args...)
}

// TokenFile is where init left the token.
func (h *Host) TokenFile() string { return filepath.Join(h.Dir, "data", "join.token") }

// Join makes this host a member of the cluster that first belongs to.
func (h *Host) Join(first *Host) {
	h.lab.t.Helper()
	h.MustCtl("join", first.Addr.String(), "--token-file", first.TokenFile())
}

// Network is what `agentctl network inspect` says of a network.
type Network struct {
	Name string
	ID   string `json:"Id"`
	VNI  uint32
	MTU  int
	IPAM struct {
		Config []struct{ Subnet, Gateway string }
	}
	Containers map[string]struct{ Name, IPv4Address, Host string }
}

// Gateway is the address at which the network's gateway and DNS server answer.
func (n Network) Gateway() netip.Addr { return netip.MustParseAddr(n.IPAM.Config[0].Gateway) }

// Number is the address of that number in the subnet: 77 is 10.1.2.77.
func (n Network) Number(number byte) netip.Addr {
	a := n.Gateway().As4()
	a[3] = number
	return netip.AddrFrom4(a)
}

// CreateNetwork creates a network and waits until every running agent knows it.
func (h *Host) CreateNetwork(name string, args ...string) Network {
	t := h.lab.t
	t.Helper()
	h.MustCtl(append([]string{"network", "create", name}, args...)...)
	for _, other := range h.lab.Hosts {
		if other.Running() {
			Eventually(t, 2*time.Second, other.Name+": network "+name+" is usable", func() error {
				if r := other.Ctl("network", "inspect", name); r.Code != 0 {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
		}
	}
	return h.Network(name)
}

// Network inspects a network.
func (h *Host) Network(name string) Network {
	h.lab.t.Helper()
	var list []Network
	h.CtlJSON(&list, "network", "inspect", name, "-o", "json")
	if len(list) != 1 {
		h.lab.t.Fatalf("%s: network inspect %s: %d networks", h.Name, name, len(list))
	}
	return list[0]
}

// DataDir is the agent's data directory.
func (h *Host) DataDir() string { return filepath.Join(h.Dir, "data") }

// Copy copies the agent's data directory to another host, whose agent does not run, as
// the copy of a virtual machine does.
func (h *Host) Copy(to *Host) {
	t := h.lab.t
	t.Helper()
	must(t, "mkdir", "-p", to.Dir)
	must(t, "cp", "-r", filepath.Join(h.Dir, "data"), filepath.Join(to.Dir, "data"))
}

// AwaitEnd waits until the agent ends by itself, and returns what it wrote last.
func (h *Host) AwaitEnd() string {
	h.lab.t.Helper()
	Eventually(h.lab.t, 20*time.Second, h.Name+": the agent ends", func() error {
		if h.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	return h.LogTail(20)
}
