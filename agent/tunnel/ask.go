package tunnel

import (
	"context"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Ask finds out now whether the tunnel to a member works, both ways; empty when it
// does, else it says in which direction it does not.
func (t *Tunnel) Ask(ctx context.Context, d Directory, m discovery.Member) (why string) {
	return t.blocked(ctx, d, m, time.Second)
}
