package agent

import (
	"context"
	"slices"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker/setup"
)

// lookDocker says whether Docker's containers get names of other hosts, and by
// what; nil and none on a host without Docker.
func (s *session) lookDocker(ctx context.Context) (*api.Docker, []api.Check) {
	socket := s.cfg.Docker.Socket
	f, err := setup.Look(ctx, setup.Paths{Socket: socket, File: setup.File, ResolvConf: s.cfg.DNS.ResolvConf})
	if err == nil && f.Version == "" && !f.Listed() {
		return nil, nil
	}
	found := &api.Docker{Socket: socket, Engine: f.Version, ResolvConf: append([]string{}, f.Resolv...), DaemonDNS: append([]string{}, f.Servers...)}
	if err != nil {
		return found, []api.Check{{Name: checkDockerName, State: api.CheckWarn, Detail: err.Error(), Hint: "journalctl -u docker # it does not start with that file either"}}
	}
	used := slices.ContainsFunc(s.journal.all(), func(l Local) bool { return l.Endpoint.Runtime == runtimeDocker })
	return found, []api.Check{dockerCheck(f, s.cfg.DNS, used)}
}

const checkDockerName = "docker-dns"

// dockerCheck judges the facts. Where no container is on one of our networks yet
// it only warns.
func dockerCheck(f setup.Facts, cfg DNSConfig, used bool) api.Check {
	c := api.Check{Name: checkDockerName, State: api.CheckOK}
	var ok bool
	c.Detail, ok = f.Reach(cfg.Intercept != InterceptOff)
	if f.Listed() && cfg.Address == AddressOff {
		c.Detail, ok = "daemon.json sends containers to "+setup.Address+", and dns_address is off", false
	}
	if ok {
		return c
	}
	c.State, c.Detail = api.CheckWarn, "names of other hosts do not resolve in Docker containers: "+c.Detail
	if used {
		c.State = api.CheckFail
	}
	c.Hint = "agentctl docker setup"
	if f.Listed() {
		c.Hint = "agentctl docker setup --undo # or dns_address: auto in agentd.yaml"
	}
	return c
}
