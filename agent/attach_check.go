package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
)

// wantedEndpoint is a checked AttachRequest.
type wantedEndpoint struct {
	network discovery.Network
	sandbox string // path
	netns   string // name below /run/netns, empty for any other path
	cookie  uint64
	name    string
	aliases []string
	addr    netip.Addr // zero: any
	mac     discovery.MAC
	ifname  string // empty: the first free ethN, until attachFree has found it
	noRoute bool
	ports   []hostport.Spec
	labels  map[string]string

	runtime   string // who asks: "netns" is agentctl
	container string // the runtime's id, empty for a bare namespace
}

// checkAttach turns a request into a wanted endpoint, or says what is wrong
// with it.
func (s *session) checkAttach(ctx context.Context, r api.AttachRequest) (wantedEndpoint, error) {
	w := wantedEndpoint{name: strings.ToLower(r.Name), ifname: r.Ifname, noRoute: r.NoDefaultRoute, labels: r.Labels,
		runtime: cmp.Or(r.Runtime, runtimeNetns), container: r.Container}
	if why := s.forgottenBy(); why != "" {
		return w, api.Errorf(api.KindConflict, "this host was taken out of the cluster: %s", why).
			WithHint("agentctl join ADDRESS --token-file FILE --replace")
	}
	if s.isLeaving() {
		return w, api.Errorf(api.KindConflict, "this host is leaving the cluster").WithHint("agentctl join ADDRESS --token-file FILE # once it has left")
	}
	if !api.ValidLabel(w.name) {
		return w, api.Errorf(api.KindMisuse, "%q is no DNS label: letters, digits, - and _, at most 63", r.Name).
			WithHint("agentctl attach --help # a --name such as web-1")
	}
	var err error
	if w.aliases, err = parseAliases(r.Aliases); err != nil {
		return w, err
	}
	if err := w.checkRuntime(); err != nil {
		return w, err
	}
	var ok bool
	if w.network, ok = s.findNetwork(ctx, r.Network); !ok {
		return w, noNetwork(r.Network)
	}
	if w.network.State == discovery.NetworkDeleting {
		return w, api.Errorf(api.KindConflict, "network %s is being deleted", w.network.Name).WithHint("agentctl network ls")
	}
	if err := w.checkAddresses(r); err != nil {
		return w, err
	}
	if len(w.ifname) > 15 || strings.ContainsAny(w.ifname, "/ \t\n:") || w.ifname == "." || w.ifname == ".." {
		return w, api.Errorf(api.KindMisuse, "%q is no interface name: at most 15 characters, no blanks, / or :", w.ifname)
	}
	return w, s.checkSandbox(ctx, r, &w)
}

// parseAliases checks names and returns them sorted, each once. Unlike a name an
// alias may have dots.
func parseAliases(texts []string) ([]string, error) {
	var all []string
	for _, alias := range texts {
		if !dns.Servable(alias) {
			return nil, api.Errorf(api.KindMisuse, "alias %q is no DNS name: labels of letters, digits, - and _, at most 63 each", alias).
				WithHint("agentctl attach --help # an --alias such as web-1")
		}
		all = append(all, strings.ToLower(alias))
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// runtimeNetns is of endpoints that a person attached.
const runtimeNetns = "netns"

// checkRuntime wants to know both, who asks and for which container, or neither.
func (w *wantedEndpoint) checkRuntime() error {
	switch {
	case !slices.Contains([]string{runtimeNetns, "cni", "podman", "containerd"}, w.runtime):
		return api.Errorf(api.KindMisuse, "runtime %q: give cni, podman or containerd", w.runtime)
	case w.runtime == runtimeNetns && w.container != "":
		return api.Errorf(api.KindMisuse, "container %s: its runtime is missing", w.container)
	case w.runtime != runtimeNetns && w.container == "":
		return api.Errorf(api.KindMisuse, "runtime %s: the container's id is missing", w.runtime)
	}
	return nil
}

// checkAddresses reads the address, the hardware address and the ports that the
// user asks for.
func (w *wantedEndpoint) checkAddresses(r api.AttachRequest) (err error) {
	if r.IP != "" {
		ip, err := netip.ParseAddr(r.IP)
		if err != nil {
			return api.Errorf(api.KindMisuse, "--ip %q is no IP address", r.IP)
		}
		sub, ok := w.network.Covering(ip)
		if !ok {
			return api.Errorf(api.KindMisuse, "%s is not in network %s (%s)", ip, w.network.Name, subnets(w.network))
		}
		if ip == sub.Gateway {
			return api.Errorf(api.KindConflict, "%s is the gateway of network %s", ip, w.network.Name).WithHint("agentctl network inspect %s", w.network.Name)
		}
		w.addr = ip
	}
	if r.MAC != "" {
		var ok bool
		if w.mac, ok = parseMAC(r.MAC); !ok {
			return api.Errorf(api.KindMisuse, "--mac %q is no unicast hardware address such as 0e:00:0a:40:00:05", r.MAC)
		}
	}
	w.ports, err = hostport.Parse(r.Ports)
	return err
}

// checkSandbox finds the namespace of the request.
func (s *session) checkSandbox(ctx context.Context, r api.AttachRequest, w *wantedEndpoint) error {
	switch {
	case r.PID != 0 && r.Netns != "", r.PID == 0 && r.Netns == "":
		return api.Errorf(api.KindMisuse, "give either --netns NAME|PATH or --pid PID")
	case r.PID < 0:
		return api.Errorf(api.KindMisuse, "--pid %d is no process id", r.PID)
	case r.PID > 0:
		w.sandbox = fmt.Sprintf("/proc/%d/ns/net", r.PID)
	case strings.Contains(r.Netns, "/"):
		w.sandbox = filepath.Clean(r.Netns)
	default:
		w.sandbox = "/run/netns/" + r.Netns
	}
	if name, ok := strings.CutPrefix(strings.Replace(w.sandbox, "/var/run/", "/run/", 1), "/run/netns/"); ok && !strings.Contains(name, "/") {
		w.netns = name
	}
	var err error
	w.cookie, err = s.overlay.Identify(ctx, w.sandbox)
	switch {
	case errors.Is(err, os.ErrNotExist) && r.PID > 0:
		return api.Errorf(api.KindNotFound, "no process %d", r.PID).WithHint("agentctl attach --help # --pid is that of a process in the namespace")
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.KindNotFound, "no network namespace %s", r.Netns).WithHint("ip netns add %s", filepath.Base(r.Netns))
	case errors.Is(err, syscall.EINVAL):
		return api.Errorf(api.KindMisuse, "%s is no network namespace", w.sandbox).WithHint("ip netns list")
	case err != nil:
		return err
	}
	if fabric, err := s.overlay.Identify(ctx, s.machine.FabricPath()); err == nil && fabric == w.cookie {
		return api.Errorf(api.KindMisuse, "%s is the fabric, which carries the networks", w.sandbox).WithHint("agentctl fabric -- ip -br link # looks into it")
	}
	if own, err := s.overlay.Identify(ctx, "/proc/thread-self/ns/net"); err == nil && own == w.cookie {
		return api.Errorf(api.KindMisuse, "%s is the host's own namespace", w.sandbox).
			WithHint("agentctl network create NAME -o host_access=full # lets the host reach every endpoint")
	}
	return nil
}

// attached finds the endpoint that the request was already served with.
func (s *session) attached(w wantedEndpoint) (Local, bool) {
	if w.ifname != "" {
		return s.journal.find(w.network.ID, w.cookie, w.ifname)
	}
	for _, l := range s.journal.all() {
		if l.Cookie == w.cookie && l.Endpoint.Network == w.network.ID {
			return l, true
		}
	}
	return Local{}, false
}

// sameEndpoint says how an attached endpoint differs from the one asked for. An
// address that was not asked for may be any.
func sameEndpoint(l Local, w wantedEndpoint) error {
	e := l.Endpoint
	how := ""
	switch {
	case e.Name != w.name:
		how = "as " + e.Name
	case w.addr.IsValid() && !slices.Contains(e.Addrs(), w.addr):
		how = fmt.Sprintf("with address %s", l.Addrs[0].Addr())
	case !w.mac.IsZero() && e.MAC != w.mac:
		how = fmt.Sprintf("with --mac %s", e.MAC)
	case !slices.Equal(e.Aliases, w.aliases) && len(e.Aliases) == 0:
		how = "without --alias"
	case !slices.Equal(e.Aliases, w.aliases):
		how = "with --alias " + strings.Join(e.Aliases, " --alias ")
	case l.NoRoute && !w.noRoute:
		how = "with --no-default-route"
	case w.noRoute && !l.NoDefault:
		how = "without --no-default-route"
	default:
		return samePorts(l, w.network.Name, w.ports)
	}
	return api.Errorf(api.KindConflict, "the sandbox is on it already, %s", how).
		WithHint("agentctl detach %s %s", w.network.Name, e.Name)
}
