package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
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
	ports   []portSpec
	labels  map[string]string

	runtime   string // who asks: "netns" is agentctl
	container string // the runtime's id, empty for a bare namespace
}

// Attach implements api.Service: lease, attach, announce; undone in reverse
// when a step fails. It returns when the name is answered on this host.
func (a *Agent) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	what := "attach " + r.Name
	w, err := s.checkAttach(ctx, r)
	if err != nil {
		return api.Attachment{}, s.explain(what, err)
	}
	s.clearStale(ctx, w)
	s.detachEarlier(ctx, w)
	out, err := s.attachOnce(ctx, w)
	return out, s.explain(what+" to "+w.network.Name, err)
}

// attachOnce attaches what is wanted; a request that was served before has the
// same answer.
func (s *session) attachOnce(ctx context.Context, w wantedEndpoint) (api.Attachment, error) {
	unlock := s.locks.lock(w.cookie)
	defer unlock()
	if w.container != "" && s.publishes(w) {
		w.ports = nil // a runtime gives a container's ports with each of its networks
	}
	if l, ok := s.attached(w); ok {
		return s.attachment(w.network, l), sameEndpoint(l, w)
	}
	start := time.Now()
	l, err := s.attachFree(ctx, w)
	if err != nil {
		return api.Attachment{}, err
	}
	s.log.Info("endpoint attached", "endpoint", l.Endpoint.ID, "name", w.name, "network", w.network.Name,
		"addr", l.Addrs[0], "took", time.Since(start))
	out := s.attachment(w.network, l)
	if l.Resolv != "" {
		if err := s.renderResolv(w.netns); err != nil {
			out.Notices = append(out.Notices, fmt.Sprintf("/etc/netns/%s/resolv.conf not written: %v", w.netns, err))
		}
	}
	return out, nil
}

// checkAttach turns a request into a wanted endpoint, or says what is wrong
// with it.
func (s *session) checkAttach(ctx context.Context, r api.AttachRequest) (wantedEndpoint, error) {
	w := wantedEndpoint{name: strings.ToLower(r.Name), ifname: r.Ifname, noRoute: r.NoDefaultRoute, labels: r.Labels,
		runtime: or(r.Runtime, runtimeNetns), container: r.Container}
	if why := s.forgottenBy(); why != "" {
		return w, api.Errorf(api.KindConflict, "this host was taken out of the cluster: %s", why).
			WithHint("agentctl join ADDRESS --token-file FILE --replace")
	}
	if s.isLeaving() {
		return w, api.Errorf(api.KindConflict, "this host is leaving the cluster").WithHint("agentctl join ADDRESS --token-file FILE # once it has left")
	}
	if !validLabel(w.name) {
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
			return api.Errorf(api.KindConflict, "%s is the gateway of network %s", ip, w.network.Name)
		}
		w.addr = ip
	}
	if r.MAC != "" {
		var ok bool
		if w.mac, ok = parseMAC(r.MAC); !ok {
			return api.Errorf(api.KindMisuse, "--mac %q is no unicast hardware address such as 0e:00:0a:40:00:05", r.MAC)
		}
	}
	w.ports, err = parsePorts(r.Ports)
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
		return api.Errorf(api.KindNotFound, "no process %d", r.PID)
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.KindNotFound, "no network namespace %s", r.Netns).WithHint("ip netns add %s", filepath.Base(r.Netns))
	case err != nil:
		return fmt.Errorf("sandbox %s: %w", w.sandbox, err)
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

// attach does the three steps for an endpoint that is not there yet.
func (s *session) attach(ctx context.Context, w wantedEndpoint) (l Local, err error) {
	var id discovery.EndpointID
	_, _ = rand.Read(id[:])
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			f()
		}
	}()
	// The request may be cancelled half-way; what it did is undone all the same.
	clean := context.WithoutCancel(ctx)
	defer s.working(id)()

	lease, err := s.leases.Lease(ctx, w.network, id, w.addr, false)
	if err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { _ = s.leases.Free(clean, w.network.ID, id) })

	l = s.newLocal(w, id, lease.Addr, lease.Seq)
	release, err := s.holdMAC(ctx, w.network, l.Endpoint.MAC)
	if err != nil {
		return Local{}, err
	}
	defer release()
	if l.Ports, err = s.reserve(w.network, l, w.ports); err != nil {
		return Local{}, err
	}
	ports := l.Ports
	undo = append(undo, func() { s.ports.release(ports) })
	s.carry(w.network.ID)
	if !s.programmed(w.network.ID) {
		if err := s.settle(ctx); err != nil {
			s.log.Warn("network not whole in the kernel", "network", w.network.Name, "err", err)
		}
	}
	if err := s.unplugs.wait(ctx, lease.Addr.Addr()); err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { _ = s.overlay.Detach(clean, id.String()) }, func() { _ = s.journal.remove(id) })
	// The disk and the kernel work side by side. An agent that dies in between
	// leaves an interface that reap removes, or an endpoint that it mends.
	written := make(chan error, 1)
	go func() { written <- s.journal.put(l) }()
	err = s.overlay.Attach(ctx, s.link(w.network, l))
	if err = errors.Join(err, <-written); err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { s.directory.Announce(nil, []discovery.EndpointID{id}); s.poke() })
	s.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
	if err := ignoreKernel(s.settle(ctx)); err != nil {
		return Local{}, err
	}
	return l, nil
}

// working marks an endpoint whose interface may be there while the journal does
// not name it, until done is called: reap leaves it alone.
func (s *session) working(id discovery.EndpointID) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attaching[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.attaching, id)
	}
}

// programmed reports whether a pass has made the network's devices. That the
// network is to be carried is not enough: two first endpoints may come at once.
func (s *session) programmed(id discovery.NetworkID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carried[id]
}

// newLocal describes the endpoint that a lease makes possible.
func (s *session) newLocal(w wantedEndpoint, id discovery.EndpointID, addr netip.Prefix, seq uint64) Local {
	l := Local{
		Endpoint: discovery.Endpoint{
			ID: id, Network: w.network.ID, MAC: w.mac, Seq: seq,
			Name: w.name, Aliases: w.aliases, Runtime: w.runtime,
		},
		Sandbox: w.sandbox, Cookie: w.cookie, Boot: s.machine.BootID(), Ifname: w.ifname, Container: w.container,
		Addrs: []netip.Prefix{addr}, NoDefault: w.noRoute || w.network.Internal, NoRoute: w.noRoute,
		Labels: w.labels, Created: time.Now().UTC(),
	}
	if w.container == "" {
		l.Resolv = w.netns // a runtime writes its containers' resolv.conf
	}
	if addr.Addr().Is4() {
		l.Endpoint.IPv4 = addr.Addr()
	} else {
		l.Endpoint.IPv6 = addr.Addr()
	}
	if l.Endpoint.MAC.IsZero() {
		l.Endpoint.MAC = endpointMAC(w.network.VNI, addr.Addr())
	}
	for _, o := range s.journal.all() {
		// One default route for each sandbox: the first network's.
		l.NoDefault = l.NoDefault || o.Cookie == w.cookie && !o.NoDefault
	}
	return l
}

// link is the interface of an endpoint, as the kernel side wants it.
func (s *session) link(n discovery.Network, l Local) overlay.Endpoint {
	ep := overlay.Endpoint{
		ID: l.Endpoint.ID.String(), VNI: n.VNI, Network: n.ID.String(), Cluster: s.cluster.ID,
		Sandbox: l.Sandbox, Ifname: l.Ifname, MAC: overlay.MAC(l.Endpoint.MAC), MTU: s.mtu(n), Addrs: l.Addrs,
	}
	if l.NoDefault {
		return ep
	}
	for _, sub := range n.Subnets {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() == sub.Gateway.Is4() }) {
			ep.Gateways = append(ep.Gateways, sub.Gateway)
		}
	}
	return ep
}

// mtu is the network's, as the last plan has it.
func (s *session) mtu(n discovery.Network) int {
	p := planner{cfg: s.cfg, snap: s.snapshot(), members: map[discovery.HostID]discovery.Member{}}
	for _, m := range p.snap.Members {
		p.members[m.ID] = m
	}
	return p.mtu(n)
}

// attachment is the answer to attach.
func (s *session) attachment(n discovery.Network, l Local) api.Attachment {
	out := api.Attachment{
		ID: l.Endpoint.ID.String(), Name: l.Endpoint.Name, Network: n.Name,
		Address: l.Addrs[0].String(), MAC: l.Endpoint.MAC.String(), MTU: s.mtu(n), Interface: l.Ifname,
		Ports:  portTexts(l.Ports),
		Search: []string{n.Name + "." + s.cfg.Domain, s.cfg.Domain},
	}
	for _, sub := range n.Subnets {
		out.DNS = append(out.DNS, sub.Gateway.String())
		if out.Gateway == "" && !l.NoDefault {
			out.Gateway = sub.Gateway.String()
		}
	}
	return out
}

func subnets(n discovery.Network) string {
	var out []string
	for _, s := range n.Subnets {
		out = append(out, s.CIDR.String())
	}
	return strings.Join(out, ", ")
}
