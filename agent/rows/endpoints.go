package rows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Endpoints lists those of all hosts, sorted by network, name and id. own are this
// host's, of which it knows more.
func Endpoints(v discovery.View, networks []discovery.Network, own []journal.Local) []api.Endpoint {
	name := map[discovery.NetworkID]discovery.Network{}
	for _, n := range networks {
		name[n.ID] = n
	}
	host := map[discovery.HostID]string{}
	for _, m := range v.Members {
		host[m.ID] = m.Name
	}
	local := map[discovery.EndpointID]journal.Local{}
	for _, l := range own {
		local[l.Endpoint.ID] = l
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
		e.Ports, e.Labels, e.Detailed, e.More = portTexts(r.Ports), labelMap(r.Labels), r.Told > 0, max(int(r.Told)-1, 0)
		if l, ok := local[r.ID]; ok && e.Local {
			e.Detailed, e.More = true, 0
			e.Sandbox, e.Interface, e.Container, e.Labels, e.Ports = l.Sandbox, l.Ifname, l.Container, l.Labels, endpoint.PortTexts(l.Ports)
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

// portTexts writes ports as docker ps does: 0.0.0.0:8080->80/tcp.
func portTexts(all []discovery.Port) []string {
	var published []overlay.Publish
	for _, p := range all {
		published = append(published, overlay.Publish{Proto: p.Proto, HostAddr: p.HostAddr, HostPort: p.HostPort, Port: p.Port})
	}
	return endpoint.PortTexts(published)
}

// labelMap reads labels that a member announces.
func labelMap(all []string) map[string]string {
	if len(all) == 0 {
		return nil
	}
	out := make(map[string]string, len(all))
	for _, l := range all {
		key, value, _ := strings.Cut(l, "=")
		out[key] = value
	}
	return out
}

// Filter leaves those that f asks for. Its network is a name that exists.
func Filter(all []api.Endpoint, f api.EndpointFilter) []api.Endpoint {
	out := []api.Endpoint{}
	for _, e := range all {
		if (f.Network == "" || e.Network == f.Network) && (f.Host == "" || e.Host == f.Host) && (f.All || e.Status != "suspended") {
			out = append(out, e)
		}
	}
	return out
}

// Find finds an endpoint of any host by id, or by a name or the start of an id that
// only one has.
func Find(all []api.Endpoint, nameOrID string) (api.Endpoint, error) {
	found := discovery.FindAll(all, nameOrID, func(e api.Endpoint) discovery.Keys {
		return discovery.Keys{Name: e.Name, IDs: []string{e.ID}}
	})
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
