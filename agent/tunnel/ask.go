package tunnel

import (
	"context"

	"github.com/weft-net/weft/discovery"
)

// Ask finds out now whether the tunnel to a member works, both ways; empty when it
// does, else it says in which direction it does not, and where, and what to type.
func (t *Tunnel) Ask(ctx context.Context, m discovery.Member) (why, hint string) {
	return t.prober.unhurried().prove(ctx, peer{host: host{m.Name, m.Header.VTEP}, id: m.ID})
}
