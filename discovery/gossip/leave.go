package gossip

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/discovery"
)

// farewell is how long Leave waits for the members.
const farewell = 5 * time.Second

// Leave says goodbye: the last version withdraws all endpoints and marks the
// host as gone, then memberlist is told. It waits until every alive member has
// confirmed that version, 5 s at most; those that have not, which the error
// counts, learn it from the others. Run goes on until its own context ends.
func (g *Gossip) Leave(ctx context.Context) error {
	g.left.Store(true)
	g.SetHeader(func(h *discovery.Header) {
		h.Flags |= discovery.FlagGone
		h.Networks = nil
	})
	wait, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	behind := g.confirmAll(wait, func() {})
	timeout := time.Second
	if end, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(end), 100*time.Millisecond)
	}
	err := g.contacts.ml.Leave(timeout)
	if behind > 0 {
		return fmt.Errorf("leave: %d members have not confirmed it: %w", behind, wait.Err())
	}
	if err != nil {
		// Every member has confirmed the last version: that memberlist has not
		// sent its own goodbye often enough by now only costs them a probe.
		g.replica.log.Debug("memberlist's goodbye", "err", err)
	}
	return nil
}
