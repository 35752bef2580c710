package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Status implements api.Service: what works and what does not, each line with
// what to do about it.
func (a *Agent) Status(context.Context) (api.Status, error) {
	st := api.Status{
		State: "not-a-member", Name: a.cfg.Name, Version: Version, Address: a.config().Advertise.String(),
		Fabric: a.parts.Host.FabricPath(), PID: os.Getpid(), Checks: []api.Check{},
	}
	a.move.RLock()
	s := a.member()
	a.move.RUnlock()
	if s == nil {
		st.Checks = append(st.Checks, api.Check{Name: "membership", State: api.CheckFail, Detail: "this host is not a member of a cluster",
			Hint: notMember})
		docker, checks := a.strandedDNS()
		st.Docker, st.Checks = docker, append(st.Checks, checks...)
		if a.docker != nil {
			st.Checks = append(st.Checks, a.docker.Checks()...)
		}
		return st, nil
	}
	st.Cluster = s.cluster.ID
	docker, checks := s.checkDockerNames(a.docker)
	st.Docker, st.Checks = docker, append(s.checks(), checks...)
	if a.docker != nil {
		st.Checks = append(st.Checks, s.dockerChecks(a.docker)...)
	}
	st.State = "ok"
	if slices.ContainsFunc(st.Checks, func(c api.Check) bool { return c.State == api.CheckFail }) {
		st.State = "degraded"
	}
	if s.forgottenBy() != "" {
		st.State = "forgotten"
	}
	return st, nil
}

func (s *session) checks() []api.Check {
	return append([]api.Check{s.checkMembership(), s.checkStore(), s.checkTable(), s.checkKernel(), s.checkDNS(), s.checkPorts()}, s.conflists.check()...)
}

func (s *session) checkMembership() api.Check {
	c := api.Check{Name: "membership", State: api.CheckOK}
	if why := s.forgottenBy(); why != "" {
		c.State, c.Detail = api.CheckFail, "this host was taken out of the cluster: "+why
		c.Hint = "agentctl leave --purge\nagentctl join ADDRESS --token-file FILE"
		return c
	}
	if why := s.addressGone(); why != "" {
		c.State, c.Detail = api.CheckFail, why
		c.Hint = "ip addr; without advertise in agentd.yaml the agent follows the default route"
		return c
	}
	alive, total := 0, 0
	var missing, hints []string
	for _, m := range s.directory.View().Members {
		switch m.Status {
		case discovery.StatusLeft:
			continue
		case discovery.StatusAlive:
			alive++
		default:
			missing = append(missing, m.Name+" "+m.Status.String())
			if m.Status == discovery.StatusAgentDown {
				hints = append(hints, fmt.Sprintf("systemctl start agentd # on %s", m.Name))
			} else {
				hints = append(hints, fmt.Sprintf("agentctl leave --force %s # if it is gone for good", m.Name))
			}
		}
		total++
	}
	c.Detail = fmt.Sprintf("%d of %d members alive", alive, total)
	if len(missing) > 0 {
		c.State, c.Detail = api.CheckWarn, c.Detail+": "+strings.Join(missing, ", ")
		c.Hint = strings.Join(hints, "\n")
	}
	return c
}

func (s *session) checkStore() api.Check {
	c := api.Check{Name: "store", State: api.CheckOK, Detail: strings.TrimSpace(inWords(s.cfg.Store))}
	if err := s.pool.Healthy(); err != nil {
		c.State, c.Detail = api.CheckFail, err.Error()
		c.Hint = "agentctl status --wait # what is attached goes on; new networks and blocks wait"
	}
	return c
}

func (s *session) checkTable() api.Check {
	c := api.Check{Name: "table", State: api.CheckOK}
	v := s.directory.View()
	c.Detail = fmt.Sprintf("%d endpoints", len(v.Endpoints))
	var beaten []string
	for _, r := range v.Endpoints {
		if r.Conflicted {
			beaten = append(beaten, fmt.Sprintf("%s of %s", r.Addrs()[0], memberName(v, r.Host)))
		}
	}
	shared := sharedMACs(v)
	switch {
	case len(beaten) > 0:
		c.State, c.Detail = api.CheckFail, "addresses claimed twice, not programmed: "+strings.Join(beaten, ", ")
		c.Hint = "agentctl endpoint ls # detach one of each"
	case len(shared) > 0:
		c.State, c.Detail = api.CheckFail, "MAC addresses that two endpoints have: "+strings.Join(shared, ", ")
		c.Hint = "agentctl endpoint ls # detach one of each"
	case !s.snapshot().Complete:
		c.State, c.Detail = api.CheckWarn, c.Detail+", not every member was read yet"
	}
	return c
}

func (s *session) checkKernel() api.Check {
	c := api.Check{Name: "kernel", State: api.CheckOK, Detail: fmt.Sprintf("%d endpoints here, %d networks carried", len(s.journal.all()), len(s.ownState().Carried))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passErr != nil {
		c.State, c.Detail = api.CheckFail, s.passErr.Error()
		c.Hint = "agentctl status --wait # retried at the next change and every minute; the log has the first of each kind"
	}
	return c
}

func (s *session) checkDNS() api.Check {
	c := api.Check{Name: "dns", State: api.CheckOK, Detail: "answering"}
	if names := s.unnamed(); len(names) > 0 {
		c.State, c.Detail = api.CheckWarn, "answering, but these are no names that DNS can carry: "+strings.Join(names, ", ")
		c.Hint = "agentctl endpoint ls # give them an alias of letters, digits, - and _, at most 63"
	}
	var all []string
	for _, err := range s.names.Problems() {
		all = append(all, err.Error())
	}
	if len(all) > 0 {
		c.State, c.Detail = api.CheckFail, strings.Join(all, "; ")
		c.Hint = "ss -lntup # traffic works; names are answered again when the port is free"
	}
	return c
}

// Members implements api.Service.
func (a *Agent) Members(context.Context) ([]api.Member, error) {
	s, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	return memberRows(s.directory.View().Members), nil
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
	s, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	if f.Network != "" {
		n, ok := s.findNetwork(ctx, f.Network)
		if !ok {
			return nil, noNetwork(f.Network)
		}
		f.Network = n.Name
	}
	if f.Host != "" {
		host := strings.ToLower(f.Host)
		if !slices.ContainsFunc(s.directory.View().Members, func(m discovery.Member) bool { return m.Name == host }) {
			return nil, api.Errorf(api.KindNotFound, "no host %s", f.Host).WithHint("agentctl members")
		}
		f.Host = host
	}
	out := []api.Endpoint{}
	for _, e := range s.endpoints() {
		if (f.Network == "" || e.Network == f.Network) && (f.Host == "" || e.Host == f.Host) && (f.All || e.Status != "suspended") {
			out = append(out, e)
		}
	}
	return out, nil
}

// endpoints lists those of all hosts, sorted by network, name and id.
func (s *session) endpoints() []api.Endpoint {
	v := s.directory.View()
	name := map[discovery.NetworkID]discovery.Network{}
	for _, n := range s.networkList() {
		name[n.ID] = n
	}
	host := map[discovery.HostID]string{}
	for _, m := range v.Members {
		host[m.ID] = m.Name
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
		if l, ok := s.journal.get(r.ID); ok && e.Local {
			e.Sandbox, e.Interface, e.Container, e.Labels, e.Ports = l.Sandbox, l.Ifname, l.Container, l.Labels, portTexts(l.Ports)
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
	s, err := a.requireMember()
	if err != nil {
		return api.Endpoint{}, err
	}
	return s.oneEndpoint(nameOrID)
}

// oneEndpoint finds an endpoint of any host by id, or by a name or the start of
// an id that only one has.
func (s *session) oneEndpoint(nameOrID string) (api.Endpoint, error) {
	want := strings.ToLower(nameOrID)
	var found, begin []api.Endpoint
	for _, e := range s.endpoints() {
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
	s, err := a.requireMember()
	if err != nil {
		return api.DNSAnswer{}, err
	}
	scope := dns.Scope{Host: true}
	if q.From != "" {
		if scope, err = s.scopeOf(q); err != nil {
			return api.DNSAnswer{}, err
		}
	}
	start := time.Now()
	ans, err := s.names.Resolve(ctx, q.Name, cmp.Or(strings.ToUpper(q.Type), "A"), scope)
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
func (s *session) scopeOf(q api.DNSQuery) (dns.Scope, error) {
	here := matching(s.journal.all(), strings.ToLower(q.From))
	if len(here) == 0 {
		e, err := s.oneEndpoint(q.From)
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
	n, known := s.network(here[0].Endpoint.Network.String())
	switch {
	case other:
		return dns.Scope{}, api.Errorf(api.KindConflict, "%d endpoints of this host have the name %s", len(here), q.From).
			WithHint("%s", strings.Join(hints, "\n"))
	case !known:
		return dns.Scope{}, noNetwork(here[0].Endpoint.Network.String())
	}
	return dns.Scope{Client: dns.Client{Device: overlay.GatewayName(n.VNI), Addr: here[0].Addrs[0].Addr()}}, nil
}
