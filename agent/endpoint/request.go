package endpoint

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
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
)

// Wanted is a checked request to attach something.
type Wanted struct {
	Network discovery.Network
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

// Check turns a request into a wanted endpoint, or says what is wrong with it.
func (m *Manager) Check(ctx context.Context, r api.AttachRequest) (Wanted, error) {
	w := Wanted{name: strings.ToLower(r.Name), ifname: r.Ifname, noRoute: r.NoDefaultRoute, labels: r.Labels,
		runtime: cmp.Or(r.Runtime, discovery.RuntimeNetns), container: r.Container}
	if err := m.Cluster.Usable(); err != nil {
		return w, err
	}
	if !strict.Label(w.name) {
		return w, api.Errorf(api.KindMisuse, "%q is no DNS label: letters, digits, - and _, at most 63", r.Name).
			WithHint("agentctl attach --help # a --name such as web-1")
	}
	aliases, long := r.Aliases, []string(nil)
	if w.runtime != discovery.RuntimeNetns {
		aliases, long = withoutLong(aliases)
	}
	var err error
	if w.aliases, err = ParseAliases(aliases); err != nil {
		return w, err
	}
	w.aliases = append(w.aliases, long...)
	if err := w.checkRuntime(); err != nil {
		return w, err
	}
	if w.Network, err = m.Cluster.FindNetwork(ctx, r.Network); err != nil {
		return w, err
	}
	if w.Network.State == discovery.NetworkDeleting {
		return w, api.Errorf(api.KindConflict, "network %s is being deleted", w.Network.Name).WithHint("agentctl network ls")
	}
	if w.addr, w.mac, err = CheckAddresses(w.Network, r.IP, r.MAC); err != nil {
		return w, err
	}
	if w.ports, err = hostport.Parse(r.Ports); err != nil {
		return w, err
	}
	if w.ifname != "" {
		if err := strict.Ifname(w.ifname); err != nil {
			return w, api.Errorf(api.KindMisuse, "--ifname %v", err).WithHint("agentctl attach --help # an --ifname such as eth0, or none")
		}
	}
	return w, m.checkSandbox(ctx, r, &w)
}

// withoutLong takes out the names of a runtime's container that are too long for DNS.
// The container is not refused for them: they are kept for status to name.
func withoutLong(aliases []string) (rest, long []string) {
	for _, alias := range aliases {
		if !dns.Servable(alias) && strings.ToLower(alias) == alias && len(alias) > 63 {
			long = append(long, alias)
		} else {
			rest = append(rest, alias)
		}
	}
	return rest, long
}

// ParseAliases checks names and returns them sorted, each once. Unlike a name an
// alias may have dots.
func ParseAliases(texts []string) ([]string, error) {
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

// checkRuntime wants to know both, who asks and for which container, or neither.
func (w *Wanted) checkRuntime() error {
	switch {
	case !slices.Contains([]string{discovery.RuntimeNetns, discovery.RuntimeCNI, discovery.RuntimePodman, discovery.RuntimeContainerd}, w.runtime):
		return api.Errorf(api.KindMisuse, "runtime %q: give cni, podman or containerd", w.runtime)
	case w.runtime == discovery.RuntimeNetns && w.container != "":
		return api.Errorf(api.KindMisuse, "container %s: its runtime is missing", w.container)
	case w.runtime != discovery.RuntimeNetns && w.container == "":
		return api.Errorf(api.KindMisuse, "runtime %s: the container's id is missing", w.runtime)
	}
	return nil
}

// CheckAddresses reads the address and the hardware address that the user asks for;
// zero: any.
func CheckAddresses(n discovery.Network, ip, mac string) (a netip.Addr, hw discovery.MAC, err error) {
	if ip != "" {
		if a, err = netip.ParseAddr(ip); err != nil {
			return a, hw, api.Errorf(api.KindMisuse, "--ip %q is no IP address", ip)
		}
		sub, ok := n.Covering(a)
		if !ok {
			return a, hw, api.Errorf(api.KindMisuse, "%s is not in network %s (%s)", a, n.Name, n.CIDRs())
		}
		if a == sub.Gateway {
			return a, hw, api.Errorf(api.KindConflict, "%s is the gateway of network %s", a, n.Name).WithHint("agentctl network inspect %s", n.Name)
		}
	}
	if mac != "" {
		var ok bool
		if hw, ok = ParseMAC(mac); !ok {
			return a, hw, api.Errorf(api.KindMisuse, "--mac %q is no unicast hardware address such as 0e:00:0a:40:00:05", mac)
		}
	}
	return a, hw, nil
}

// checkSandbox finds the namespace of the request.
func (m *Manager) checkSandbox(ctx context.Context, r api.AttachRequest, w *Wanted) error {
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
	w.cookie, err = m.Kernel.Identify(ctx, w.sandbox)
	switch {
	case errors.Is(err, syscall.EINVAL):
		return api.Errorf(api.KindMisuse, "%v", err).WithHint("ip netns list # shows those that have a name; --pid takes that of a process")
	case errors.Is(err, os.ErrNotExist) && r.PID > 0:
		return api.Errorf(api.KindNotFound, "no process %d", r.PID).WithHint("agentctl attach --help # --pid is that of a process in the namespace")
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.KindNotFound, "no network namespace %s", r.Netns).WithHint("ip netns add %s", filepath.Base(r.Netns))
	case err != nil:
		return err
	}
	if fabric, err := m.Kernel.Identify(ctx, m.Host.Fabric); err == nil && fabric == w.cookie {
		return api.Errorf(api.KindMisuse, "%s is the fabric, which carries the networks", w.sandbox).WithHint("agentctl fabric -- ip -br link # looks into it")
	}
	if own, err := m.Kernel.Identify(ctx, "/proc/thread-self/ns/net"); err == nil && own == w.cookie {
		return api.Errorf(api.KindMisuse, "%s is the host's own namespace", w.sandbox).
			WithHint("agentctl network create NAME -o host_access=full # lets the host reach every endpoint")
	}
	return nil
}

// sameEndpoint says how an attached endpoint differs from the one asked for. An
// address that was not asked for may be any.
func sameEndpoint(l journal.Local, w Wanted) error {
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
		return samePorts(l, w.Network.Name, w.ports)
	}
	return api.Errorf(api.KindConflict, "the sandbox is on it already, %s", how).
		WithHint("agentctl detach %s %s", w.Network.Name, e.Name)
}
