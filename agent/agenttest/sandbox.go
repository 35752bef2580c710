package agenttest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
)

// Sandbox is a network namespace on a host, as a container has one.
type Sandbox struct {
	NS   Netns
	Host *Host
}

// Attachment is the answer of `agentctl attach -o json`.
type Attachment struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Network   string       `json:"network"`
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
	DNS       []netip.Addr `json:"dns"`
	MAC       string       `json:"mac"`
	MTU       int          `json:"mtu"`
	Interface string       `json:"interface"`
	Ports     []string     `json:"ports"`
}

// Addr is the endpoint's address without the subnet's length.
func (a Attachment) Addr() netip.Addr { return a.Address.Addr() }

// Sandbox makes an empty network namespace on the host. It is the lab's to
// remove.
func (h *Host) Sandbox(name string) *Sandbox {
	h.lab.t.Helper()
	s := &Sandbox{NS: Netns(string(h.NS) + "-" + name), Host: h}
	s.NS.add(h.lab.t)
	return s
}

// Remove deletes the namespace, as the end of a container does.
func (s *Sandbox) Remove() {
	s.Host.lab.t.Helper()
	if err := s.NS.delete(); err != nil {
		s.Host.lab.t.Error(err)
	}
}

// Attach puts the sandbox on a network under a name.
func (s *Sandbox) Attach(network, name string, flags ...string) Attachment {
	s.Host.lab.t.Helper()
	a, r := s.TryAttach(network, name, flags...)
	if r.Code != 0 {
		s.Host.lab.t.Fatalf("%s: %s", s.Host.Name, r)
	}
	return a
}

// TryAttach is Attach for a test that expects the command to fail.
func (s *Sandbox) TryAttach(network, name string, flags ...string) (a Attachment, r Result) {
	s.Host.lab.t.Helper()
	r = s.Host.Ctl(append([]string{"attach", network, "--netns", string(s.NS), "--name", name, "-o", "json"}, flags...)...)
	if r.Code == 0 {
		if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
			s.Host.lab.t.Fatalf("attach -o json: %v in %s", err, r)
		}
	}
	return a, r
}

// Detach takes an endpoint of this host off a network, by name or id.
func (s *Sandbox) Detach(network, endpoint string) {
	s.Host.lab.t.Helper()
	s.Host.MustCtl("detach", network, endpoint)
}

// Endpoint makes a sandbox of that name and attaches it.
func (h *Host) Endpoint(network, name string, flags ...string) (*Sandbox, Attachment) {
	h.lab.t.Helper()
	s := h.Sandbox(name)
	return s, s.Attach(network, name, flags...)
}

// Exec runs a program as a user does, with the resolv.conf that attach wrote.
func (s *Sandbox) Exec(args ...string) Result {
	return Run("", append([]string{"ip", "netns", "exec", string(s.NS)}, args...)...)
}

// Getent resolves a name with the C library of the machine.
func (s *Sandbox) Getent(name string) ([]netip.Addr, error) {
	r := s.Exec("getent", "ahostsv4", name)
	if r.Code != 0 {
		return nil, fmt.Errorf("%s", r)
	}
	var addrs []netip.Addr
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "STREAM" {
			a, err := netip.ParseAddr(f[0])
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// PingOnce sends one packet and reports whether it came back: the first packet
// between two endpoints must, since nothing is resolved on the wire.
func (s *Sandbox) PingOnce(addr netip.Addr) error {
	if r := s.NS.Run("ping", "-n", "-c", "1", "-W", "1", addr.String()); r.Code != 0 {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// Background is a program that runs in a sandbox.
type Background struct{ p *process }

// Background starts a program that runs until it is killed, or the test ends.
func (s *Sandbox) Background(args ...string) *Background {
	t := s.Host.lab.t
	t.Helper()
	b := &Background{start(t, filepath.Join(s.Host.lab.Dir, string(s.NS)+"-"+filepath.Base(args[0])+".log"), nil, s.NS.Enter(args...)...)}
	t.Cleanup(b.Kill)
	return b
}

// Kill ends the program; nothing happens when it has ended.
func (b *Background) Kill() { b.p.signal(syscall.SIGKILL) }

// Endpoints is `endpoint ls` of a host, by name.
func (h *Host) Endpoints() map[string]EndpointRow {
	h.lab.t.Helper()
	var rows []EndpointRow
	h.CtlJSON(&rows, "endpoint", "ls", "-o", "json")
	byName := map[string]EndpointRow{}
	for _, r := range rows {
		byName[r.Name] = r
	}
	return byName
}

// EndpointRow is one row of `agentctl endpoint ls -o json`.
type EndpointRow struct {
	Name, Address, MAC, Host, Runtime, Container string
	Aliases                                      []string
}
