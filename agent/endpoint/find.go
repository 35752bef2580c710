package endpoint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Matching returns the endpoints that a word calls (discovery.Find). What a runtime
// calls a container counts as an id.
func Matching(all []journal.Local, word string) []journal.Local {
	return discovery.FindAll(all, word, func(l journal.Local) discovery.Keys {
		// What a runtime calls it may be no label, and is an alias then.
		return discovery.Keys{Name: l.Endpoint.Name, Aliases: l.Endpoint.Aliases, IDs: []string{l.Endpoint.ID.String(), l.Container}}
	})
}

// own finds an endpoint of this host on a network; a zero one when there is none. One
// of another host is an error that names it.
func (m *Manager) own(n discovery.Network, nameOrID string) (journal.Local, error) {
	on := slices.DeleteFunc(m.Journal.All(), func(l journal.Local) bool { return l.Endpoint.Network != n.ID || l.OfHost() })
	found := Matching(on, nameOrID)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return journal.Local{}, elsewhere(m.directory.View(), n, nameOrID)
	}
	hints := make([]string, len(found))
	for i, l := range found {
		hints[i] = fmt.Sprintf("agentctl detach %s %s # %s", n.Name, l.Endpoint.ID, l.Addrs[0].Addr())
	}
	return journal.Local{}, api.Errorf(api.KindConflict, "detach %s from %s: %d endpoints of this host have that name", nameOrID, n.Name, len(found)).
		WithHint("%s", strings.Join(hints, "\n"))
}

// recordKeys are the words that call an endpoint of any host.
func recordKeys(r discovery.Record) discovery.Keys {
	return discovery.Keys{Name: r.Name, IDs: []string{r.ID.String()}}
}

// elsewhere says on which hosts endpoints live that are not this one's.
func elsewhere(v discovery.View, n discovery.Network, word string) error {
	var hosts, hints []string
	others := slices.DeleteFunc(slices.Clone(v.Endpoints), func(r discovery.Record) bool { return r.Network != n.ID || r.Host == v.Self })
	for _, r := range discovery.FindAll(others, word, recordKeys) {
		host := v.MemberName(r.Host)
		if slices.Contains(hosts, host) {
			continue
		}
		hosts = append(hosts, host)
		if m := v.Member(r.Host); m.Status == discovery.StatusDead {
			hints = append(hints, fmt.Sprintf("agentctl leave --force %s # if that host is gone for good", host))
		} else {
			hints = append(hints, fmt.Sprintf("ssh %s agentctl detach %s %s", m.Header.VTEP, n.Name, word))
		}
	}
	switch len(hosts) {
	case 0:
		return nil
	case 1:
		return api.Errorf(api.KindConflict, "detach %s from %s: %s is on host %s", word, n.Name, word, hosts[0]).WithHint("%s", hints[0])
	}
	return api.Errorf(api.KindConflict, "detach %s from %s: endpoints of that name are on hosts %s", word, n.Name, strings.Join(hosts, ", ")).
		WithHint("%s", strings.Join(hints, "\n"))
}

// oneSandbox finds what a user calls a container of this host: an endpoint's id
// or name, the runtime's id, or the start of an id. It returns one of the container's
// endpoints, the first that was made; false: it is on none of our networks.
func (m *Manager) oneSandbox(name string) (journal.Local, bool, error) {
	all := slices.DeleteFunc(m.Journal.All(), journal.Local.OfHost)
	slices.SortStableFunc(all, func(a, b journal.Local) int { return a.Created.Compare(b.Created) })
	found := Matching(all, name)
	if len(found) == 0 {
		return journal.Local{}, false, nil
	}
	var hints []string
	for _, l := range found {
		hints = append(hints, fmt.Sprintf("agentctl endpoint inspect %s", l.Endpoint.ID))
		if l.Cookie != found[0].Cookie || l.Container != found[0].Container {
			return journal.Local{}, false, api.Errorf(api.KindConflict, "more than one container of this host is %s", name).
				WithHint("%s", strings.Join(hints, "\n"))
		}
	}
	return found[0], true, nil
}
