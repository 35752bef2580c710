package cni

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// nerdctlNames is where nerdctl keeps names: <hash>/names/<namespace>/<name>
// holds the container's id.
var nerdctlNames = "/var/lib/nerdctl"

// namesOf are the labels that a container is known by. The first is the one
// that its address is called back, the rest are aliases. A name that its runtime
// gave it comes before the aliases of a user, and those before what is made of
// its id, so that a container is called back by what `podman ps` shows.
func namesOf(c Conf, a args, id string) []string {
	var names []string
	add := func(name string) {
		if l := label(name); l != "" && !slices.Contains(names, l) {
			names = append(names, l)
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
	if len(names) == 0 || isHash(id) {
		add(short)
	}
	return names
}

// label makes a DNS label of a name: what cannot stand in one becomes a hyphen.
// It is empty when nothing is left.
func label(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			b[i] = '-'
		}
	}
	return string(bytes.Trim(b[:min(len(b), 63)], "-"))
}

var hash = regexp.MustCompile(`^(?:.*-)?([0-9a-f]{64})$`)

// isHash tells an id that a runtime has drawn from one that a person has typed.
func isHash(id string) bool { return hash.MatchString(id) }

// shortID is the first twelve digits of a drawn id, as runtimes show it, and
// all of one that a person has typed.
func shortID(id string) string {
	if m := hash.FindStringSubmatch(id); m != nil {
		return m[1][:12]
	}
	return id
}

// nerdctlName looks an id of the form <namespace>-<id> up in nerdctl's store;
// empty when it is not there.
func nerdctlName(id string) string {
	m := hash.FindStringSubmatch(id)
	if m == nil || len(id) == len(m[1]) {
		return ""
	}
	namespace := id[:len(id)-len(m[1])-1]
	found, _ := filepath.Glob(filepath.Join(nerdctlNames, "*", "names", escapeGlob(namespace), "*"))
	for _, path := range found {
		if b, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(b)) == m[1] {
			return filepath.Base(path)
		}
	}
	return ""
}

// escapeGlob: a namespace is [A-Za-z0-9_.-] and has nothing to escape; anything
// else matches nothing.
func escapeGlob(s string) string {
	if strings.ContainsAny(s, `*?[\/`) {
		return "\x00"
	}
	return s
}
