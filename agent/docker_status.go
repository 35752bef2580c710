package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// lookDocker reads where Docker's containers ask for names; nil on a host without
// Docker. The engine is not asked for it: that would start one that was stopped.
func lookDocker(d Docker, cfg config.Config) (*api.Docker, setup.Facts, error) {
	f, err := setup.Look(cfg.Docker.DaemonJSON, cfg.DNS.ResolvConf)
	if d != nil {
		f.Version, f.API = d.Engine()
	}
	if err == nil && f.Version == "" && !f.Listed() {
		return nil, f, nil
	}
	return &api.Docker{Socket: cfg.Docker.Socket, Engine: f.Version,
		ResolvConf: append([]string{}, f.Resolv...), DaemonDNS: append([]string{}, f.Servers...)}, f, err
}

// checkDockerNames says whether Docker's containers get names of other hosts, and
// by what; nil and none on a host without Docker.
func (m *member) checkDockerNames(d Docker) (*api.Docker, []api.Check) {
	found, f, err := lookDocker(d, m.cfg)
	if found == nil {
		return nil, nil
	}
	if err != nil {
		return found, []api.Check{{Name: checkDockerName, State: api.CheckWarn, Detail: err.Error(), Hint: "journalctl -u docker # it does not start with that file either"}}
	}
	used := slices.ContainsFunc(m.endpoints.Journal.All(), func(l journal.Local) bool { return l.Endpoint.Runtime == discovery.RuntimeDocker })
	return found, []api.Check{dockerCheck(f, m.cfg, used)}
}

// checkDockerLeaves refuses what a host with Docker would suffer from once it has
// left: questions at an address where nobody answers, and networks that nobody
// removes. With --purge status says so afterwards.
func (a *Agent) checkDockerLeaves(m *member, r api.LeaveRequest) error {
	var kept []string
	for _, id := range m.book.Objects() {
		if n, ok := m.networks.Get(id); ok {
			kept = append(kept, n.Name)
		}
	}
	slices.Sort(kept)
	switch {
	case r.Purge || a.docker == nil:
	case listed(m.cfg.Docker.DaemonJSON) && m.cfg.DNS.Address != config.AddressOff:
		return api.Errorf(api.KindConflict, "Docker sends its containers to %s, where nobody answers once this host has left", setup.Address).
			WithHint("%s # then systemctl restart docker\nagentctl leave --purge # all the same", setupCommand(m.cfg.Docker, "--undo"))
	case len(kept) > 0 && !a.docker.Found():
		return api.Errorf(api.KindConflict, "Docker does not answer, and would keep the networks %s", strings.Join(slices.Compact(kept), ", ")).
			WithHint("systemctl start docker\nagentctl leave --purge # all the same; then docker network rm")
	}
	return nil
}

// strandedDNS is what is wrong with names in the containers of a host that is no
// member; nil and none when nothing is.
func (a *Agent) strandedDNS() (*api.Docker, []api.Check) {
	cfg := a.config()
	found, f, err := lookDocker(a.docker, cfg)
	if err != nil || !f.Listed() {
		return found, nil
	}
	return found, []api.Check{{Name: checkDockerName, State: api.CheckFail,
		Detail: "daemon.json sends containers to " + setup.Address + ", where nobody answers on a host that is no member: each of their lookups waits for seconds",
		Hint:   setupCommand(cfg.Docker, "--undo") + " # then systemctl restart docker\nagentctl join ADDRESS --token-file FILE"}}
}

// dockerChecks are the engine's lines of status. One that is away, with our
// containers, is missed.
func (m *member) dockerChecks(d Docker) []api.Check {
	if all := d.Checks(); len(all) > 0 {
		return all
	}
	here := 0
	for _, l := range m.endpoints.Journal.All() {
		if l.Docker != nil {
			here++
		}
	}
	if here == 0 {
		return nil
	}
	return []api.Check{{Name: "docker", State: api.CheckWarn,
		Detail: fmt.Sprintf("no engine answers: its %d endpoints here are as last seen", here), Hint: "systemctl start docker"}}
}

const checkDockerName = "docker-dns"

// dockerCheck judges the facts. Where no container is on one of our networks yet
// it only warns.
func dockerCheck(f setup.Facts, cfg config.Config, used bool) api.Check {
	c := api.Check{Name: checkDockerName, State: api.CheckOK}
	var ok bool
	c.Detail, ok = f.Reach(cfg.DNS.Intercept != config.InterceptOff)
	if f.Listed() && cfg.DNS.Address == config.AddressOff {
		c.Detail, ok = "daemon.json sends containers to "+setup.Address+", and dns_address is off", false
	}
	if ok {
		return c
	}
	c.State, c.Detail = api.CheckWarn, "names of other hosts do not resolve in Docker containers: "+c.Detail
	if used {
		c.State = api.CheckFail
	}
	c.Hint = setupCommand(cfg.Docker)
	if f.Listed() {
		c.Hint = setupCommand(cfg.Docker, "--undo") + " # or dns_address: auto in agentd.yaml"
	}
	return c
}

// setupCommand is the line that changes this host's daemon.json.
func setupCommand(cfg config.Docker, flags ...string) string {
	words := append([]string{"agentctl docker setup"}, flags...)
	if cfg.DaemonJSON != setup.File {
		words = append(words, "--file", cfg.DaemonJSON)
	}
	return strings.Join(words, " ")
}
