package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Members implements api.Service.
func (a *Agent) Members(context.Context) ([]api.Member, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	return memberRows(m.directory.View().Members), nil
}

// memberRows lists the members. One that has left is not shown when its name is
// in use again, nor when gossip never reached it: its join failed, and only a
// goodbye went round.
func memberRows(members []discovery.Member) []api.Member {
	here := map[string]bool{}
	for _, m := range members {
		here[m.Name] = here[m.Name] || m.Status != discovery.StatusLeft
	}
	out := []api.Member{}
	for _, m := range members {
		if m.Status == discovery.StatusLeft && (here[m.Name] || !m.Gossip.IsValid()) {
			continue
		}
		row := api.Member{
			Name: m.Name, ID: m.ID.String(), Status: m.Status.String(),
			Version: m.Version, RTT: float64(m.RTT.Microseconds()) / 1000,
		}
		if a := cmp.Or(m.Gossip.Addr(), m.Header.VTEP); a.IsValid() {
			row.Address = a.String()
		}
		out = append(out, row)
	}
	return out
}

// Endpoints implements api.Service.
func (a *Agent) Endpoints(ctx context.Context, f api.EndpointFilter) ([]api.Endpoint, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	if f.Network != "" {
		n, err := m.networks.Find(ctx, f.Network)
		if err != nil {
			return nil, err
		}
		f.Network = n.Name
	}
	if f.Host != "" {
		host := strings.ToLower(f.Host)
		if !slices.ContainsFunc(m.directory.View().Members, func(o discovery.Member) bool { return o.Name == host }) {
			return nil, api.Errorf(api.KindNotFound, "no host %s", f.Host).WithHint("agentctl members")
		}
		f.Host = host
	}
	out := []api.Endpoint{}
	for _, e := range m.endpointRows() {
		if (f.Network == "" || e.Network == f.Network) && (f.Host == "" || e.Host == f.Host) && (f.All || e.Status != "suspended") {
			out = append(out, e)
		}
	}
	return out, nil
}

// endpointRows lists those of all hosts, sorted by network, name and id.
func (m *member) endpointRows() []api.Endpoint {
	v := m.directory.View()
	name := map[discovery.NetworkID]discovery.Network{}
	for _, n := range m.networks.ByName() {
		name[n.ID] = n
	}
	host := map[discovery.HostID]string{}
	for _, o := range v.Members {
		host[o.ID] = o.Name
	}
	var out []api.Endpoint
	for _, r := range v.Endpoints {
		n, ok := name[r.Network]
		e := api.Endpoint{
			ID: r.ID.String(), Name: r.Name, Aliases: append([]string{}, r.Aliases...), Network: n.Name,
			MAC: r.MAC.String(), Host: host[r.Host], Status: r.Status.String(), Runtime: r.Runtime,
			Local: r.Host == v.Self,
		}
		if !ok {
			e.Network = r.Network.String()
		}
		if addrs := r.Addrs(); len(addrs) > 0 {
			e.Address = withLength(n, addrs[0])
		}
		if l, ok := m.endpoints.Journal.Get(r.ID); ok && e.Local {
			e.Sandbox, e.Interface, e.Container, e.Labels, e.Ports = l.Sandbox, l.Ifname, l.Container, l.Labels, endpoint.PortTexts(l.Ports)
			if l.Docker != nil {
				e.Sandbox = l.Docker.SandboxKey
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b api.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Endpoint implements api.Service.
func (a *Agent) Endpoint(_ context.Context, nameOrID string) (api.Endpoint, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Endpoint{}, err
	}
	return m.oneEndpoint(nameOrID)
}

// oneEndpoint finds an endpoint of any host by id, or by a name or the start of
// an id that only one has.
func (m *member) oneEndpoint(nameOrID string) (api.Endpoint, error) {
	want := strings.ToLower(nameOrID)
	var found, begin []api.Endpoint
	for _, e := range m.endpointRows() {
		if e.ID == want {
			return e, nil
		}
		if e.Name == want {
			found = append(found, e)
		}
		if len(want) >= 4 && strings.HasPrefix(e.ID, want) {
			begin = append(begin, e)
		}
	}
	if len(found) == 0 {
		found = begin
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return api.Endpoint{}, api.Errorf(api.KindNotFound, "no endpoint %s", nameOrID).WithHint("agentctl endpoint ls")
	}
	var hints []string
	for _, e := range found {
		hints = append(hints, fmt.Sprintf("agentctl endpoint inspect %s # on %s of %s", e.ID, e.Network, e.Host))
	}
	return api.Endpoint{}, api.Errorf(api.KindConflict, "%d endpoints have the name %s", len(found), nameOrID).
		WithHint("%s", strings.Join(hints, "\n"))
}

// Query implements api.Service: the answer that the endpoint, or the host,
// would get.
func (a *Agent) Query(ctx context.Context, q api.DNSQuery) (api.DNSAnswer, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.DNSAnswer{}, err
	}
	scope := dns.Scope{Host: true}
	if q.From != "" {
		if scope, err = m.scopeOf(q); err != nil {
			return api.DNSAnswer{}, err
		}
	}
	start := time.Now()
	ans, err := m.names.Resolve(ctx, q.Name, cmp.Or(strings.ToUpper(q.Type), "A"), scope)
	if err != nil {
		return api.DNSAnswer{}, api.Errorf(api.KindMisuse, "dns query %s: %v", q.Name, err)
	}
	return api.DNSAnswer{
		Rcode: ans.Rcode, Answer: ans.Answer, Authority: ans.Authority, Values: ans.Values,
		Took: float64(time.Since(start).Microseconds()) / 1000,
	}, nil
}

// scopeOf is what q.From, an endpoint of this host by name or id, sees. Of
// endpoints that share the name only those of other sandboxes would see other
// names.
func (m *member) scopeOf(q api.DNSQuery) (dns.Scope, error) {
	here := endpoint.Matching(m.endpoints.Journal.All(), q.From)
	if len(here) == 0 {
		e, err := m.oneEndpoint(q.From)
		if err != nil {
			return dns.Scope{}, err
		}
		return dns.Scope{}, api.Errorf(api.KindConflict, "endpoint %s is on host %s", q.From, e.Host).
			WithHint("agentctl dns query %s %s --from %s # on %s", q.Name, q.Type, q.From, e.Host)
	}
	var hints []string
	other := false
	for _, l := range here {
		other = other || l.Cookie != here[0].Cookie
		hints = append(hints, fmt.Sprintf("agentctl dns query %s %s --from %s # %s", q.Name, q.Type, l.Endpoint.ID, l.Sandbox))
	}
	n, known := m.networks.Get(here[0].Endpoint.Network)
	switch {
	case other:
		return dns.Scope{}, api.Errorf(api.KindConflict, "%d endpoints of this host have the name %s", len(here), q.From).
			WithHint("%s", strings.Join(hints, "\n"))
	case !known:
		return dns.Scope{}, api.NoNetwork(here[0].Endpoint.Network.String())
	}
	return dns.Scope{Client: dns.Client{Device: overlay.GatewayName(n.VNI), Addr: here[0].Addrs[0].Addr()}}, nil
}
