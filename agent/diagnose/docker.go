package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker/setup"
)

// Engine returns the engine's lines of status, which are checks. When there are
// none although endpoints here are containers of an engine, it warns that no engine
// answers.
func Engine(checks []api.Check, endpoints int) []api.Check {
	if len(checks) > 0 || endpoints == 0 {
		return checks
	}
	return []api.Check{{Name: "docker", State: api.CheckWarn,
		Detail: fmt.Sprintf("no engine answers: its %d endpoints here are as last seen", endpoints), Hint: "systemctl start docker"}}
}

const dockerNames = "docker-dns"

// DaemonJSON says that a daemon.json cannot be read.
func DaemonJSON(err error) api.Check {
	return api.Check{Name: dockerNames, State: api.CheckWarn, Detail: err.Error(), Hint: "journalctl -u docker # it does not start with that file either"}
}

// Stranded says that containers of a host which is no member ask where nobody
// answers.
func Stranded(cfg config.Docker) api.Check {
	return api.Check{Name: dockerNames, State: api.CheckFail,
		Detail: "daemon.json sends containers to " + setup.Address + ", where nobody answers on a host that is no member: each of their lookups waits for seconds",
		Hint:   SetupCommand(cfg, "--undo") + " # then systemctl restart docker\nagentctl join ADDRESS --token-file FILE"}
}

// DockerNames says whether names of other hosts resolve in Docker's containers. It
// only warns while no container is on a network of weft.
func DockerNames(f setup.Facts, cfg config.Config, used bool) api.Check {
	c := api.Check{Name: dockerNames, State: api.CheckOK}
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
	c.Hint = SetupCommand(cfg.Docker)
	if f.Listed() {
		c.Hint = SetupCommand(cfg.Docker, "--undo") + " # or dns_address: auto in agentd.yaml"
	}
	return c
}

// SetupCommand is the line that changes this host's daemon.json.
func SetupCommand(cfg config.Docker, flags ...string) string {
	words := append([]string{"agentctl docker setup"}, flags...)
	if cfg.DaemonJSON != setup.File {
		words = append(words, "--file", cfg.DaemonJSON)
	}
	return strings.Join(words, " ")
}
