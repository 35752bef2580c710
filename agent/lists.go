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
	"github.com/weft-net/weft/agent/rows"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Members implements api.Service.
func (a service) Members(context.Context) ([]api.Member, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	list := rows.Members(m.directory.View().Members)
	rows.Tunnels(list, m.tunnel.Proofs(), time.Now())
	return list, nil
}

// refreshFor is how long proofs that are made anew are waited for: a member that does
// not answer takes a few seconds.
const refreshFor = 8 * time.Second

// Proofs implements api.Service. What is not proven anew in time is as old as it says.
func (a service) Proofs(ctx context.Context, refresh bool) ([]api.Proof, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	if refresh {
		ctx, cancel := context.WithTimeout(ctx, refreshFor)
		defer cancel()
		_ = m.tunnel.Refresh(ctx)
	}
	return rows.Proofs(m.tunnel.Proofs()), nil
}

// Endpoints implements api.Service.
func (a service) Endpoints(ctx context.Context, f api.EndpointFilter) ([]api.Endpoint, error) {
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
	return rows.Filter(m.allEndpoints(), f), nil
}

// allEndpoints are those of all hosts.
func (m *member) allEndpoints() []api.Endpoint {
	return rows.Endpoints(m.directory.View(), m.networks.ByName(), m.endpoints.Journal.All())
}

// Endpoint implements api.Service.
func (a service) Endpoint(_ context.Context, nameOrID string) (api.Endpoint, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Endpoint{}, err
	}
	return rows.Find(m.allEndpoints(), nameOrID)
}

// Query implements api.Service: the answer that the endpoint, or the host,
// would get.
func (a service) Query(ctx context.Context, q api.DNSQuery) (api.DNSAnswer, error) {
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
		e, err := rows.Find(m.allEndpoints(), q.From)
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
