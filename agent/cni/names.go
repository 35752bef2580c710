package cni

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// nerdctlNames is where nerdctl keeps names: <hash>/names/<namespace>/<name>
// holds the container's id.
var nerdctlNames = "/var/lib/nerdctl"

// namesOf are the names that a container is known by. The first is the label that
// its address is called back, the rest are aliases. A name that its runtime
// gave it comes before the aliases of a user, and those before what is made of
// its id, so that a container is called back by what `podman ps` shows.
func namesOf(c conf, a args, id string) []string {
	var names []string
	add := func(name string) {
		for _, n := range api.Names(name) {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	pod, namespace := string(a.K8S_POD_NAME), string(a.K8S_POD_NAMESPACE)
	add(pod)
	for _, alias := range c.RuntimeConfig.Aliases.of(c.Name) {
		add(alias)
	}
	if pod != "" && namespace != "" {
		add(pod + "-" + namespace) // two namespaces may have one pod name
	}
	short := shortID(id)
	// Without --hostname nerdctl makes one of the id, which says less than the
	// container's name.
	if host := string(a.NERDCTL_CNI_DHCP_HOSTNAME); host != short {
		add(host)
	}
	if pod == "" {
		add(nerdctlName(id))
	}
	if len(names) == 0 || drawn(id) != "" {
		add(short)
	}
	return names
}

// drawn is the end of an id that a runtime has drawn: 64 hexadecimal digits,
// alone or after a namespace and a hyphen. It is empty for an id that a person
// has typed.
func drawn(id string) string {
	rest := len(id) - 64
	if rest < 0 || rest > 0 && id[rest-1] != '-' || strings.Trim(id[rest:], "0123456789abcdef") != "" {
		return ""
	}
	return id[rest:]
}

// shortID is the first twelve digits of a drawn id, as runtimes show it, and
// all of one that a person has typed.
func shortID(id string) string {
	if d := drawn(id); d != "" {
		return d[:12]
	}
	return id
}

// nerdctlName looks an id of the form <namespace>-<id> up in nerdctl's store;
// empty when it is not there.
func nerdctlName(id string) string {
	if drawn(id) == "" {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(nerdctlNames, "*", "names", "*", "*"))
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err == nil && filepath.Base(filepath.Dir(path))+"-"+string(bytes.TrimSpace(b)) == id {
			return filepath.Base(path)
		}
	}
	return ""
}
