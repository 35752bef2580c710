package overlay

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Found returns what the kernel alone says of the endpoints whose link exists, for an
// agent that has lost what it wrote down: ID, Network and Cluster from the link's
// alias, MAC and Addrs (each with its full length) from the packet filter, which lets
// nothing else in. An endpoint that the filter does not know has none.
func (o *Overlay) Found(ctx context.Context) ([]Endpoint, error) {
	all, err := o.kernel.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the kernel: %w", err)
	}
	at := map[string]int{} // by device
	var out []Endpoint
	for _, have := range all {
		l, ok := have.(Link)
		if !ok {
			continue
		}
		if id, ok := AliasEndpoint(l.Alias); ok {
			at[l.Name] = len(out)
			network, _ := aliasField(l.Alias, "net=")
			cluster, _ := aliasField(l.Alias, "cluster=")
			out = append(out, Endpoint{ID: id, Network: network, Cluster: cluster, MTU: l.MTU})
		}
	}
	for _, have := range all {
		e, ok := have.(NFElement)
		if !ok || e.Place != Fabric || !strings.HasPrefix(e.Set, portsSet) {
			continue
		}
		// Every port may also ask for an address that it has not got yet.
		if i, ok := at[e.Dev]; ok && !e.Addr.Addr().IsUnspecified() && !e.Addr.Addr().IsLinkLocalUnicast() {
			out[i].MAC = e.MAC
			out[i].Addrs = append(out[i].Addrs, e.Addr)
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}
