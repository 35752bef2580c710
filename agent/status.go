package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/discovery"
)

// Status implements api.Service: what works and what does not, each line with
// what to do about it.
func (a *Agent) Status(context.Context) (api.Status, error) {
	st := api.Status{
		State: "not-a-member", Name: a.cfg.Name, Version: api.Release(), Address: a.config().Advertise.String(),
		Fabric: a.parts.Host.FabricPath(), PID: os.Getpid(), Checks: []api.Check{},
	}
	m := a.settled()
	if m == nil {
		st.Checks = append(st.Checks, api.Check{Name: "membership", State: api.CheckFail, Detail: "this host is not a member of a cluster",
			Hint: api.NotMember})
		docker, checks := a.strandedDNS()
		st.Docker, st.Checks = docker, append(st.Checks, checks...)
		if a.docker != nil {
			st.Checks = append(st.Checks, a.docker.Checks()...)
		}
		return st, nil
	}
	st.Cluster = m.host.Cluster().ID
	docker, checks := m.checkDockerNames(a.docker)
	st.Docker, st.Checks = docker, append(m.checks(), checks...)
	if a.docker != nil {
		st.Checks = append(st.Checks, m.dockerChecks(a.docker)...)
	}
	st.State = "ok"
	if slices.ContainsFunc(st.Checks, func(c api.Check) bool { return c.State == api.CheckFail }) {
		st.State = "degraded"
	}
	if m.host.ForgottenBy() != "" {
		st.State = "forgotten"
	}
	return st, nil
}

func (m *member) checks() []api.Check {
	return append([]api.Check{m.checkMembership(), m.checkStore(), m.checkTable(), m.checkKernel(), m.checkDNS(), m.endpoints.CheckPorts()}, m.conflists.Check()...)
}

func (m *member) checkMembership() api.Check {
	c := api.Check{Name: "membership", State: api.CheckOK}
	if why := m.host.ForgottenBy(); why != "" {
		c.State, c.Detail = api.CheckFail, "this host was taken out of the cluster: "+why
		c.Hint = "agentctl leave --purge\nagentctl join ADDRESS --token-file FILE"
		return c
	}
	if why := m.addressGone(); why != "" {
		c.State, c.Detail = api.CheckFail, why
		c.Hint = "ip addr; without advertise in agentd.yaml the agent follows the default route"
		return c
	}
	alive, total := 0, 0
	var missing, hints []string
	for _, o := range m.directory.View().Members {
		switch o.Status {
		case discovery.StatusLeft:
			continue
		case discovery.StatusAlive:
			alive++
		default:
			missing = append(missing, o.Name+" "+o.Status.String())
			if o.Status == discovery.StatusAgentDown {
				hints = append(hints, fmt.Sprintf("systemctl start agentd # on %s", o.Name))
			} else {
				hints = append(hints, fmt.Sprintf("agentctl leave --force %s # if it is gone for good", o.Name))
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

func (m *member) checkStore() api.Check {
	c := api.Check{Name: "store", State: api.CheckOK, Detail: strings.TrimSpace(inWords(m.cfg.Store))}
	if err := m.pool.Healthy(); err != nil {
		c.State, c.Detail = api.CheckFail, err.Error()
		c.Hint = "agentctl status --wait # what is attached goes on; new networks and blocks wait"
	}
	return c
}

func (m *member) checkTable() api.Check {
	c := api.Check{Name: "table", State: api.CheckOK}
	v := m.directory.View()
	c.Detail = fmt.Sprintf("%d endpoints", len(v.Endpoints))
	var conflicted []string
	for _, r := range v.Endpoints {
		if r.Beaten {
			conflicted = append(conflicted, fmt.Sprintf("%s of %s", r.Addrs()[0], v.MemberName(r.Host)))
		}
	}
	shared := endpoint.SharedMACs(v)
	switch {
	case len(conflicted) > 0:
		c.State, c.Detail = api.CheckFail, "addresses claimed twice, not programmed: "+strings.Join(conflicted, ", ")
		c.Hint = "agentctl endpoint ls # detach one of each"
	case len(shared) > 0:
		c.State, c.Detail = api.CheckFail, "MAC addresses that two endpoints have: "+strings.Join(shared, ", ")
		c.Hint = "agentctl endpoint ls # detach one of each"
	case !m.snapshot().Complete:
		c.State, c.Detail = api.CheckWarn, c.Detail+", not every member was read yet"
	}
	return c
}

func (m *member) checkKernel() api.Check {
	c := api.Check{Name: "kernel", State: api.CheckOK,
		Detail: fmt.Sprintf("%d endpoints here, %d networks carried", len(m.endpoints.Planned()), len(m.endpoints.Carried()))}
	if _, err := m.last(); err != nil {
		c.State, c.Detail = api.CheckFail, err.Error()
		c.Hint = "agentctl status --wait # retried at the next change and every minute; the log has the first of each kind"
	}
	return c
}

func (m *member) checkDNS() api.Check {
	c := api.Check{Name: "dns", State: api.CheckOK, Detail: "answering"}
	zone, _ := m.last()
	if names := unservable(zone); len(names) > 0 {
		c.State, c.Detail = api.CheckWarn, "answering, but these are no names that DNS can carry: "+strings.Join(names, ", ")
		c.Hint = "agentctl endpoint ls # give them an alias of letters, digits, - and _, at most 63"
	}
	var all []string
	for _, err := range m.names.Problems() {
		all = append(all, err.Error())
	}
	if len(all) > 0 {
		c.State, c.Detail = api.CheckFail, strings.Join(all, "; ")
		c.Hint = "ss -lntup # traffic works; names are answered again when the port is free"
	}
	return c
}
