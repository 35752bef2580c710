package dns

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	miekg "github.com/miekg/dns"
)

// Upstreams are the resolvers that this server asks for what is not its own.
type Upstreams struct {
	Servers []Upstream // in the order that they are asked
	File    string     // that names them; empty: the configuration does
	Err     error      // of reading File; Servers are those of before then
}

// Upstream is one of them.
type Upstream struct {
	Addr netip.AddrPort
	Err  error // why it is of no use; nil while it answers, and as long as nobody asked it
	// Since it became known: the questions that it answered, the time until then, and
	// those that it did not.
	Answers uint64
	Took    time.Duration
	Errors  uint64
}

// Upstreams says how they fare, as far as is known from what was asked of them.
func (s *Server) Upstreams() Upstreams {
	var out Upstreams
	for _, u := range s.remote.servers() {
		out.Servers = append(out.Servers, u.state())
	}
	r := s.remote.resolvers
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fixed {
		out.File, out.Err = r.conf, r.err
	}
	return out
}

// servers are those that may be asked, in the order of the file.
func (f *forwarder) servers() []*upstream {
	return slices.DeleteFunc(slices.Clone(f.resolvers.current()), func(u *upstream) bool { return f.own(u.addr) })
}

// check asks upstreams that are of no use, or refused something, for what every
// resolver can answer, and those that were chosen for this server once before anybody
// needs them.
func (f *forwarder) check() {
	over := make(chan struct{})
	close(over) // one try
	for _, u := range f.servers() {
		if u.due(time.Now(), f.resolvers.named()) {
			q := new(miekg.Msg).SetQuestion(".", miekg.TypeNS)
			go func() {
				m, err := f.askOne(over, u, q, func() {})
				if err == nil && m.verdict(miekg.TypeNS) == refusal {
					u.refused(m.rcode())
				}
			}()
		}
	}
}

// needsUpstream reports whether anybody here may ask for what is not ours.
func (v *view) needsUpstream() bool {
	for s := range maps.Values(v.clients) {
		if !s.confined {
			return true
		}
	}
	return false
}
