// Package why says why one end does not reach another, or that it does. It is pure: it
// follows the packet's way through facts that it is handed, from the name to the socket
// that listens, and stops at the first step that is broken.
package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

// Kind is what an end is.
type Kind string

// The kinds of ends.
const (
	Endpoint Kind = "endpoint"
	Host     Kind = "host" // a member's own address
	Outside  Kind = "outside"
)

// End is one end of the conversation.
type End struct {
	Kind    Kind
	Name    string // as it is called in sentences
	Addr    netip.Addr
	MAC     overlay.MAC // of an endpoint
	Network string      // of an endpoint
	Sandbox string      // path of its namespace; empty: the host's, or not known
	Host    string      // that it is on; empty: outside
	Status  string      // of that host as members shows it
}

// Name is how DST was found, when it was given as a name.
type Name struct {
	Asked    string
	Rcode    string // of the answer that SRC gets
	Values   []string
	Networks []string // on which an endpoint of that name is, and SRC is not
	Away     []string // hosts that are not alive, of endpoints of that name
	Near     []string // names that SRC would find
}

// Unanswered is the Rcode of a name that is asked upstream in vain.
const Unanswered = "no upstream resolver answers"

// Access is what the network lets pass beside its endpoints' own packets.
type Access struct {
	Internal   bool
	HostAccess string // none, local or full
}

// Side is what one host says of its part of the way.
type Side struct {
	Err     string // it cannot be asked
	Unknown bool   // it has no such endpoint
	In      *overlay.Inside
	InErr   string // the sandbox cannot be looked into
	Drift   []string
	// Tunnel are chains of the host that drop what the other host sends to the tunnel
	// port, or what this one sends.
	Tunnel []overlay.InsideDrop
	// Taken is another program's route that leads to DST.
	Taken string
	// Out is why this host has no way to a DST outside.
	Out string
	// Filters are chains of other programs that drop forwarded packets of endpoints.
	Filters []overlay.ForeignFilter
}

// Tunnel is what the proofs say of the way between the two hosts.
type Tunnel struct {
	Crossed bool // the way leads through it
	Why     string
	Hint    string
	Port    uint16
	OK      bool
}

// Facts are all that is known.
type Facts struct {
	Src, Dst End
	Name     *Name // nil: DST was no name
	Proto    string
	Port     uint16 // 0: none was asked for
	Access   Access
	Here     Side
	There    Side // of DST's host, when that is another one
	Tunnel   Tunnel
	Trial    overlay.Trial // empty: not made
	TrialErr string
	Took     time.Duration
	// Published are the endpoints that publish the port on another host than DST, which
	// is a host.
	Published []string
}

// finding is a step that is broken.
type finding struct{ what, hint string }

// walk is a Facts with the steps that were made.
type walk struct {
	Facts
	steps []api.WhyStep
	first *finding
	mute  bool // SRC gets no answer to any question for a name
}

// Explain follows the way.
func Explain(f Facts) api.Why {
	w := &walk{Facts: f}
	w.step("name", f.Src.Host, w.name)
	w.step("network", f.Src.Host, w.network)
	w.step("sandbox of "+f.Src.Name, f.Src.Host, w.source)
	w.step("kernel of "+f.Src.Host, f.Src.Host, func() (string, *finding) { return w.kernel(f.Src.Host, f.Here) })
	w.step("tunnel", f.Src.Host, w.tunnel)
	w.step("kernel of "+f.Dst.Host, f.Dst.Host, w.far)
	w.step("sandbox of "+f.Dst.Name, f.Dst.Host, w.sink)
	w.step("try", f.Src.Host, w.try)
	return w.answer()
}

// step makes one. Evidence without a finding is a step that holds, none at all one that
// does not apply.
func (w *walk) step(name, host string, look func() (string, *finding)) {
	s := api.WhyStep{Step: name, Host: host, State: "skipped"}
	evidence, found := look()
	switch {
	case found != nil:
		s.State, s.Evidence = "broken", found.what
		if w.first == nil {
			w.first = found
		}
	case evidence != "":
		s.State, s.Evidence = "ok", evidence
	default:
		return
	}
	w.steps = append(w.steps, s)
}

func (w *walk) answer() api.Why {
	a := api.Why{Steps: w.steps}
	to := w.Dst.Name
	if w.Port != 0 {
		to += fmt.Sprintf(" port %d/%s", w.Port, w.Proto)
	}
	switch {
	case w.works():
		a.Works = true
		a.Sentence = fmt.Sprintf("%s reaches %s at %s: %s", w.Src.Name, to, w.Dst.Addr, w.how())
	case w.first != nil:
		a.Sentence, a.Hint = fmt.Sprintf("%s cannot reach %s: %s", w.Src.Name, to, w.first.what), w.first.hint
	default:
		a.Sentence = fmt.Sprintf("%s cannot reach %s, and every step of the way is as it should be", w.Src.Name, to)
		a.Hint = "agentctl status # on both hosts"
	}
	return a
}

// works: an answer came, or nothing is wrong and none had to come; and the name can be
// asked for.
func (w *walk) works() bool {
	switch w.Trial {
	case overlay.TrialAnswered:
		return !w.mute
	case overlay.TrialSilent:
		return w.Proto == "udp" && w.first == nil
	}
	return false
}

func (w *walk) how() string {
	if w.Trial == overlay.TrialSilent {
		return "the datagram is on its way, and nobody has to answer one"
	}
	return fmt.Sprintf("answered in %.1f ms", float64(w.Took)/float64(time.Millisecond))
}

// name is the first step: without an address nothing is sent.
func (w *walk) name() (string, *finding) {
	n := w.Name
	if n == nil {
		return "", nil
	}
	if i := slices.IndexFunc(w.Here.Filters, func(f overlay.ForeignFilter) bool { return f.Input }); i >= 0 && w.Src.Kind == Endpoint {
		f := w.Here.Filters[i]
		w.mute = true
		return "", &finding{fmt.Sprintf("another program's packet filter on %s drops the question for %s: nft table %s %s, chain %s", w.Src.Host, n.Asked, f.Family, f.Table, f.Chain),
			strings.Join(f.Accept(), "\n")}
	}
	if len(n.Values) > 0 {
		return n.Asked + " is " + strings.Join(n.Values, ", "), nil
	}
	switch {
	case len(n.Networks) > 0:
		return "", &finding{fmt.Sprintf("no network has both: %s is on %s, and %s is not", n.Asked, strings.Join(n.Networks, ", "), w.Src.Name),
			fmt.Sprintf("agentctl network connect %s %s", n.Networks[0], w.Src.Name)}
	case len(n.Away) > 0:
		return "", &finding{fmt.Sprintf("%s is on %s, which is not alive: its names are not answered", n.Asked, strings.Join(n.Away, ", ")), "agentctl members"}
	case len(n.Near) > 0:
		return "", &finding{fmt.Sprintf("there is no name %s (%s); near it: %s", n.Asked, n.Rcode, strings.Join(n.Near, ", ")),
			fmt.Sprintf("agentctl why %s %s", w.Src.Name, n.Near[0])}
	}
	if n.Rcode == "SERVFAIL" || n.Rcode == Unanswered {
		return "", &finding{fmt.Sprintf("%s for %s", Unanswered, n.Asked), "agentctl status"}
	}
	return "", &finding{fmt.Sprintf("there is no name %s (%s)", n.Asked, n.Rcode), "agentctl endpoint ls"}
}

// network is whether the two may speak at all.
func (w *walk) network() (string, *finding) {
	src, dst := w.Src, w.Dst
	inspect := func(n string) string { return "agentctl network inspect " + n }
	switch {
	case !dst.Addr.IsValid():
		return "", nil
	case src.Kind == Endpoint && dst.Kind == Endpoint && src.Network != dst.Network:
		return "", &finding{fmt.Sprintf("no network has both: %s is on %s, %s on %s", src.Name, src.Network, dst.Name, dst.Network),
			fmt.Sprintf("agentctl network connect %s %s", dst.Network, src.Name)}
	case src.Kind == Endpoint && dst.Kind == Endpoint:
		return "both are on " + src.Network, nil
	case src.Kind == Endpoint && dst.Kind == Outside && w.Access.Internal:
		return "", &finding{fmt.Sprintf("network %s is internal: nothing leaves it", src.Network), inspect(src.Network)}
	case src.Kind == Endpoint && dst.Kind == Host && w.Access.HostAccess == "none":
		return "", &finding{fmt.Sprintf("network %s has host_access=none: its endpoints reach no host", src.Network), inspect(src.Network)}
	case src.Kind == Host && dst.Kind == Endpoint && w.Access.HostAccess == "none":
		return "", &finding{fmt.Sprintf("network %s has host_access=none: no host reaches its endpoints", dst.Network), inspect(dst.Network)}
	case src.Kind == Host && dst.Kind == Endpoint && src.Host != dst.Host && w.Access.HostAccess != "full":
		return "", &finding{fmt.Sprintf("network %s has host_access=local: a host reaches the endpoints that are on it, and %s is on %s", dst.Network, dst.Name, dst.Host), inspect(dst.Network)}
	}
	return fmt.Sprintf("%s to %s", src.Kind, dst.Kind), nil
}

// source looks from within SRC.
func (w *walk) source() (string, *finding) {
	if !w.Dst.Addr.IsValid() || w.Here.In == nil && w.Here.InErr == "" {
		return "", nil
	}
	return w.sandbox(w.Src, w.Here, w.Dst)
}

// sink looks from within DST.
func (w *walk) sink() (string, *finding) {
	side := w.There
	if side.In == nil && side.InErr == "" {
		return "", nil
	}
	evidence, found := w.sandbox(w.Dst, side, w.Src)
	if found != nil || w.Port == 0 || side.In == nil || side.In.Hears(w.Dst.Addr, w.Port) {
		return evidence, found
	}
	return "", &finding{w.deaf(*side.In), w.within(w.Dst, "ss -lnp")}
}

// deaf says that nothing listens, and what does.
func (w *walk) deaf(in overlay.Inside) string {
	var open, elsewhere []string
	for _, e := range in.Ears {
		switch {
		case e.Port == w.Port:
			elsewhere = append(elsewhere, netip.AddrPortFrom(e.Addr, e.Port).String())
		case in.Hears(w.Dst.Addr, e.Port):
			open = append(open, fmt.Sprint(e.Port))
		}
	}
	switch {
	case len(w.Published) > 0:
		return fmt.Sprintf("nothing listens on %d/%s in %s: that is a port of %s", w.Port, w.Proto, w.Dst.Name, strings.Join(w.Published, ", "))
	case len(elsewhere) > 0:
		return fmt.Sprintf("%s listens on %s alone, not on %s", w.Dst.Name, strings.Join(elsewhere, ", "), w.Dst.Addr)
	case len(open) > 0:
		return fmt.Sprintf("nothing listens on %d/%s in %s; open there: %s", w.Port, w.Proto, w.Dst.Name, strings.Join(open[:min(len(open), 8)], ", "))
	}
	return fmt.Sprintf("nothing listens on %d/%s in %s, and on no other port", w.Port, w.Proto, w.Dst.Name)
}
