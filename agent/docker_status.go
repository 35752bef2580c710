package agent

import (
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker/setup"
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
		return found, []api.Check{diagnose.DaemonJSON(err)}
	}
	return found, []api.Check{diagnose.DockerNames(f, m.cfg, m.dockerEndpoints() > 0)}
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
			WithHint("%s # then systemctl restart docker\nagentctl leave --purge # all the same", diagnose.SetupCommand(m.cfg.Docker, "--undo"))
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
	return found, []api.Check{diagnose.Stranded(cfg.Docker)}
}

// dockerEndpoints counts the endpoints of Docker's containers here.
func (m *member) dockerEndpoints() int {
	n := 0
	for _, l := range m.endpoints.Journal.All() {
		if l.Docker != nil {
			n++
		}
	}
	return n
}
