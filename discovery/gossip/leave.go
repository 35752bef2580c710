package gossip

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Leave says goodbye: the last version withdraws all endpoints and marks the
// host as gone, then memberlist is told. It waits until every alive member has
// confirmed that version, or ctx ends; those that have not learn it from the
// others. Run goes on until its own context ends.
func (g *Gossip) Leave(ctx context.Context) error {
	g.left.Store(true)
	g.SetHeader(func(h *discovery.Header) {
		h.Flags |= discovery.FlagGone
		h.Networks = nil
	})
	behind := g.confirmAll(ctx, func() {})
	timeout := time.Second
	if end, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(end), 100*time.Millisecond)
	}
	if err := g.ml.Leave(timeout); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if behind > 0 {
		return fmt.Errorf("leave: %d members have not confirmed it: %w", behind, ctx.Err())
	}
	return nil
}
