package agent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/agent/why"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

const (
	tryWait = time.Second             // for an answer of DST
	farWait = 2500 * time.Millisecond // for that of its host
)

// witness answers what a person asks about the way between two ends: it gathers facts
// and hands them to agent/why.
type witness struct{ *member }

// Why implements api.Service. It is answered by the host that SRC is on.
func (a service) Why(ctx context.Context, r api.WhyRequest) (api.Why, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Why{}, err
	}
	if err := checkWhy(&r); err != nil {
		return api.Why{}, err
	}
	w := witness{m}
	src, err := w.senders(r.From)
	if err != nil {
		return api.Why{}, m.explain("why", err)
	}
	if far := src[0]; far.Host != m.host.Host().Name {
		return askThere[api.Why](ctx, w, "why", far, 2*farWait, r)
	}
	return w.why(ctx, src, r), nil
}

// checkWhy refuses a protocol that cannot be tried; TCP is the one that is not named.
func checkWhy(r *api.WhyRequest) error {
	switch r.Proto {
	case "":
		r.Proto = "tcp"
	case "tcp", "udp":
	default:
		return api.Errorf(api.KindMisuse, "why: %s is no protocol: tcp or udp", r.Proto).WithHint("agentctl why %s %s 80/tcp", r.From, r.To)
	}
	return nil
}

// whyFor answers a member whose user asked there. It asks nobody on: SRC is here, or is
// refused.
func (a service) whyFor(ctx context.Context, _ discovery.HostID, r api.WhyRequest) (api.Why, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Why{}, err
	}
	if err := checkWhy(&r); err != nil {
		return api.Why{}, err
	}
	w := witness{m}
	src, err := w.sendersHere(r.From)
	if err != nil {
		return api.Why{}, err
	}
	return w.why(ctx, src, r), nil
}

func (w witness) memberNamed(name string) (discovery.Member, bool) {
	all := w.directory.View().Members
	i := slices.IndexFunc(all, func(o discovery.Member) bool { return o.Name == name })
	if i < 0 {
		return discovery.Member{}, false
	}
	return all[i], true
}

// senders are the ends that a word names, of one sandbox: its endpoint on each network.
func (w witness) senders(word string) ([]why.End, error) {
	self := w.host.Host().Name
	if word == "host" || word == self {
		return []why.End{{Kind: why.Host, Name: self, Host: self, Status: "alive"}}, nil
	}
	ends := w.called(word)
	if len(ends) == 0 {
		return nil, api.Errorf(api.KindNotFound, "no endpoint %s", word).WithHint("agentctl endpoint ls")
	}
	one := slices.DeleteFunc(slices.Clone(ends), func(e why.End) bool { return e.Host != ends[0].Host || e.Sandbox != ends[0].Sandbox })
	return one, nil
}

// called are the endpoints that a word calls: by name, address, id or as a runtime calls
// the container. Those of this host come first.
func (w witness) called(word string) (out []why.End) {
	addr, _ := netip.ParseAddr(word)
	local := map[string]bool{}
	for _, l := range endpoint.Matching(w.endpoints.Journal.All(), word) {
		local[l.Endpoint.ID.String()] = true
	}
	for _, e := range w.allEndpoints() {
		a, err := netip.ParsePrefix(e.Address)
		named := e.Name == strings.ToLower(word) || slices.Contains(e.Aliases, strings.ToLower(word)) || e.ID == word
		if err != nil || e.Runtime == discovery.RuntimeHost || !named && a.Addr() != addr && !local[e.ID] {
			continue
		}
		end := w.end(e)
		if e.Local {
			out = slices.Insert(out, 0, end)
		} else {
			out = append(out, end)
		}
	}
	return out
}

func (w witness) end(e api.Endpoint) why.End {
	a, _ := netip.ParsePrefix(e.Address)
	host, _ := w.memberNamed(e.Host)
	end := why.End{Kind: why.Endpoint, Name: e.Name, Addr: a.Addr(), Network: e.Network, Sandbox: e.Sandbox,
		Host: e.Host, Status: host.Status.String()}
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		copy(end.MAC[:], mac)
	}
	return end
}

// why gathers what is known and has it explained.
func (w witness) why(ctx context.Context, src []why.End, r api.WhyRequest) api.Why {
	f := why.Facts{Src: src[0], Proto: r.Proto, Port: r.Port}
	if r.Port == 0 {
		f.Proto = "icmp"
	}
	f.Dst, f.Name = w.destination(ctx, src, r.To)
	f.Src = sameNetwork(src, f.Dst)
	if !f.Dst.Addr.IsValid() {
		return why.Explain(f)
	}
	f.Access = w.access(f.Src, f.Dst)
	f.Published = w.published(f.Dst, r)
	c := overlay.Crossing{Src: f.Src.Addr, Dst: f.Dst.Addr, Proto: f.Proto, Port: r.Port}
	far, other := w.memberNamed(f.Dst.Host)
	other = other && f.Dst.Host != f.Src.Host
	var wg sync.WaitGroup
	wg.Go(func() { f.Here = w.side(ctx, f.Src, c, false, far.Header.VTEP) })
	wg.Go(func() { f.There = w.otherSide(ctx, f.Dst, c, far, other) })
	wg.Go(func() {
		if f.Tunnel = (why.Tunnel{Crossed: other && f.Dst.Kind == why.Endpoint, Port: w.cfg.Ports.Tunnel}); f.Tunnel.Crossed && far.Status != discovery.StatusDead {
			f.Tunnel.Why, f.Tunnel.Hint = w.tunnel.Ask(ctx, far)
			f.Tunnel.OK = f.Tunnel.Why == ""
		}
	})
	wg.Go(func() {
		try, cancel := context.WithTimeout(ctx, tryWait)
		defer cancel()
		var err error
		as := c
		as.Src = netip.Addr{} // as a program does: the kernel chooses
		if f.Trial, f.Took, err = w.machine.Try(try, f.Src.Sandbox, as); err != nil {
			f.TrialErr = err.Error()
		}
	})
	wg.Wait()
	return why.Explain(f)
}

// destination finds DST as SRC would: an address, or what its resolver has for a name.
func (w witness) destination(ctx context.Context, src []why.End, word string) (why.End, *why.Name) {
	if a, err := netip.ParseAddr(word); err == nil {
		return w.at(a, word), nil
	}
	if o, ok := w.memberNamed(word); ok {
		return why.End{Kind: why.Host, Name: word, Addr: o.Header.VTEP, Host: o.Name, Status: o.Status.String()}, nil
	}
	n := &why.Name{Asked: word}
	ctx, cancel := context.WithTimeout(ctx, tryWait)
	defer cancel()
	for _, s := range src {
		ans, err := w.names.Resolve(ctx, word, "A", w.asSeenBy(s))
		if err != nil { // ours are answered at once
			n.Rcode = why.Unanswered
			continue
		}
		n.Rcode = ans.Rcode
		for _, v := range ans.Values {
			if a, err := netip.ParseAddr(v); err == nil {
				n.Values = ans.Values
				return w.at(a, word), n
			}
		}
	}
	w.absent(n, src)
	if all := w.called(word); len(all) > 0 && len(n.Networks) == 0 && len(n.Away) == 0 {
		return all[0], nil // an id, or a container's name, that is no name for the resolver
	}
	return why.End{Name: word}, n
}

// at is whoever has an address.
func (w witness) at(a netip.Addr, word string) why.End {
	if all := w.called(a.String()); len(all) > 0 {
		return all[0]
	}
	for _, o := range w.directory.View().Members {
		if o.Header.VTEP == a {
			return why.End{Kind: why.Host, Name: o.Name, Addr: a, Host: o.Name, Status: o.Status.String()}
		}
	}
	return why.End{Kind: why.Outside, Name: word, Addr: a}
}

// asSeenBy is how an end asks for names.
func (w witness) asSeenBy(e why.End) dns.Scope {
	n, ok := w.networks.Lookup(e.Network)
	if e.Kind == why.Host || !ok {
		return dns.Scope{Host: true}
	}
	return dns.Scope{Client: dns.Client{Device: overlay.GatewayName(n.VNI), Addr: e.Addr}}
}

// absent says where a name is that SRC does not find.
func (w witness) absent(n *why.Name, src []why.End) {
	on := func(network string) bool {
		return slices.ContainsFunc(src, func(e why.End) bool { return e.Network == network || e.Kind == why.Host })
	}
	add := func(list *[]string, s string) {
		if !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	short, _, _ := strings.Cut(strings.ToLower(n.Asked), ".")
	for _, e := range w.allEndpoints() {
		for _, name := range append([]string{e.Name}, e.Aliases...) {
			switch host, _ := w.memberNamed(e.Host); {
			case name == short && !on(e.Network):
				add(&n.Networks, e.Network)
			case name == short && host.Status == discovery.StatusAlive: // the rest of what was asked is wrong
				add(&n.Near, name+"."+e.Network)
			case name == short:
				add(&n.Away, e.Host)
			case name != short && on(e.Network) && why.Near(name, short):
				add(&n.Near, name)
			}
		}
	}
}

// published are the endpoints that publish the port on another host than DST.
func (w witness) published(dst why.End, r api.WhyRequest) (all []string) {
	if dst.Kind == why.Endpoint || r.Port == 0 {
		return nil
	}
	for _, e := range w.allEndpoints() {
		for _, p := range e.Ports { // 0.0.0.0:8080->80/tcp
			outer, inner, _ := strings.Cut(p, "->")
			_, proto, _ := strings.Cut(inner, "/")
			if at, err := netip.ParseAddrPort(outer); err == nil && at.Port() == r.Port && proto == r.Proto && e.Host != dst.Host {
				all = append(all, e.Name+" on "+e.Host)
			}
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// access is what the network that the packet begins or ends on lets out.
func (w witness) access(src, dst why.End) why.Access {
	n, ok := w.networks.Lookup(cmp.Or(src.Network, dst.Network))
	if !ok {
		return why.Access{}
	}
	return why.Access{Internal: n.Internal, HostAccess: string(n.HostAccess())}
}

// sideRequest asks DST's host for its side.
type sideRequest struct {
	End      why.End          `json:"end"`
	Crossing overlay.Crossing `json:"crossing"`
}

// otherSide asks DST's host, which may be this one.
func (w witness) otherSide(ctx context.Context, dst why.End, c overlay.Crossing, far discovery.Member, other bool) why.Side {
	switch {
	case dst.Host == "":
		return why.Side{}
	case !other:
		return w.side(ctx, dst, c, true, netip.Addr{})
	case far.Status == discovery.StatusDead || far.Status == discovery.StatusAgentDown:
		return why.Side{Err: "it is " + far.Status.String()}
	}
	ctx, cancel := context.WithTimeout(ctx, farWait)
	defer cancel()
	side, err := peers.Ask[why.Side](ctx, w.directory.Call, far.ID, "why-side", sideRequest{dst, c})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		side.Err = "its agent does not answer"
	case err != nil:
		side.Err = unasked(far, err).Why
	}
	return side
}

// sideFor answers SRC's host. It finds the endpoint itself: a path that a member names
// is not opened.
func (a service) sideFor(ctx context.Context, from discovery.HostID, r sideRequest) (why.Side, error) {
	m, err := a.requireMember()
	if err != nil {
		return why.Side{}, err
	}
	end := why.End{Kind: why.Host, Name: m.host.Host().Name, Addr: m.cfg.Advertise, Host: m.host.Host().Name}
	if r.End.Kind == why.Endpoint {
		own := slices.DeleteFunc(witness{m}.called(r.End.Addr.String()), func(e why.End) bool {
			return e.Host != m.host.Host().Name || e.Network != r.End.Network
		})
		if len(own) == 0 {
			return why.Side{Unknown: true}, nil
		}
		end = own[0]
	}
	return witness{m}.side(ctx, end, r.Crossing, true, m.directory.View().Member(from).Header.VTEP), nil
}

// side looks at this host's part of the way: into the sandbox of e, at the kernel's
// state for its network, and at what drops tunnel packets from and to the peer.
func (w witness) side(ctx context.Context, e why.End, c overlay.Crossing, arrives bool, peer netip.Addr) (s why.Side) {
	if in, err := w.machine.Look(e.Sandbox, c, arrives); err != nil {
		s.InErr = err.Error()
	} else {
		s.In = &in
	}
	if drift, _, err := w.overlay.Verify(ctx); err == nil {
		for _, d := range drift {
			if d.Kind != overlay.DriftExtra && (d.Network == "" || d.Network == e.Network) {
				s.Drift = append(s.Drift, d.Command)
			}
		}
	}
	around := w.overlay.Surroundings()
	s.Filters = around.Filters
	for _, o := range around.Routes {
		if o.Cut().Contains(c.Dst) && e.Kind != why.Endpoint {
			s.Taken = o.Route.String()
		}
	}
	if e.Kind == why.Endpoint && !arrives && w.at(c.Dst, "").Kind == why.Outside {
		if in, err := w.machine.Look("", c, false); err == nil {
			s.Out = in.Way.Err
		}
	}
	if peer.IsValid() && peer != w.cfg.Advertise {
		tunnel := overlay.Crossing{Src: peer, Dst: w.cfg.Advertise, Proto: "udp", Port: w.cfg.Ports.Tunnel}
		if in, err := w.machine.Look("", tunnel, true); err == nil {
			s.Tunnel = slices.DeleteFunc(in.Drops, func(d overlay.InsideDrop) bool { return d.Answer })
		}
		tunnel.Src, tunnel.Dst = tunnel.Dst, tunnel.Src
		if in, err := w.machine.Look("", tunnel, false); err == nil {
			s.Tunnel = append(s.Tunnel, slices.DeleteFunc(in.Drops, func(d overlay.InsideDrop) bool { return d.Answer })...)
		}
	}
	return s
}
