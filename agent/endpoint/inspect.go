package endpoint

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// Altered is an endpoint whose interface is not as it was made.
type Altered struct {
	Name, Network string
	Sandbox       string   // path
	How           []string // a few words each
	Again         string   // the command that puts it right
}

// inspectFor bounds how long all sandboxes are looked at.
const inspectFor = 2 * time.Second

// Altered looks into the sandboxes of this host's endpoints. Those of Docker are
// Docker's: the agent may not see them.
func (m *Manager) Altered(ctx context.Context) (all []Altered) {
	ctx, cancel := context.WithTimeout(ctx, inspectFor)
	defer cancel()
	for _, l := range m.Journal.All() {
		if ctx.Err() != nil {
			break
		}
		id := l.Endpoint.ID
		n, known := m.Cluster.Network(l.Endpoint.Network)
		if l.OfHost() || l.Docker != nil || !known || m.busy.has(id) || m.unplugs.removing(id) {
			continue
		}
		if gone, err := m.vanished(ctx, l); gone || err != nil {
			continue // the sweep's business
		}
		how, err := m.Kernel.Inspect(ctx, m.link(n, l))
		if _, still := m.Journal.Get(id); err == nil && len(how) > 0 && still {
			all = append(all, Altered{Name: l.Endpoint.Name, Network: n.Name, Sandbox: l.Sandbox, How: how, Again: again(n, l)})
		}
	}
	return all
}

// again is the request by which the endpoint was made, as agentctl takes it.
func again(n discovery.Network, l journal.Local) string {
	words := []string{"agentctl attach", n.Name, "--netns", strings.TrimPrefix(l.Sandbox, "/run/netns/"), "--name", l.Endpoint.Name}
	for _, a := range l.Endpoint.Aliases {
		words = append(words, "--alias", a)
	}
	if l.NoRoute {
		words = append(words, "--no-default-route")
	}
	return strings.Join(append(words, "--ifname", l.Ifname), " ")
}

// inspectEvery is how often all sandboxes are looked into for those who ask again and
// again.
const inspectEvery = 30 * time.Second

// Inspections are looks into all sandboxes, for those who ask again and again: a
// thousand of them take longer than a scrape may.
type Inspections struct {
	look   func(context.Context) []Altered
	wanted pace.Signal
	found  atomic.Pointer[[]Altered] // nil: nobody has looked yet
}

// Last is Manager.Altered at the last look, mostly of this minute. It asks for the next.
func (i *Inspections) Last() []Altered {
	i.wanted.Set()
	if found := i.found.Load(); found != nil {
		return *found
	}
	return nil
}

// Run looks while somebody asks, until ctx ends.
func (i *Inspections) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-i.wanted:
		}
		found := i.look(ctx)
		i.found.Store(&found)
		if !pace.Sleep(ctx, inspectEvery) {
			return nil
		}
	}
}
