package agent

import (
	"context"
	"errors"
	"time"

	"github.com/weft-net/weft/discovery/pool"
)

// reassert writes back what a wiped or restored store lost: the cluster's
// record, networks that nobody deleted, own blocks. What a host that was taken
// out held belongs to others by now, and one that leaves has given it back.
func (s *session) reassert(ctx context.Context) {
	if s.forgottenBy() != "" || s.isLeaving() {
		return
	}
	s.mu.Lock()
	lost := s.lost
	for _, since := range s.absent {
		// The folders of the pool are read one after the other: the tombstone of
		// a network may come a moment after its key has gone.
		lost = lost || time.Since(since) > 5*time.Second
	}
	s.mu.Unlock()
	if !lost && !errors.Is(s.pool.Healthy(), pool.ErrNoCluster) {
		return
	}
	err := errors.Join(
		s.pool.Reassert(ctx, s.meta(), s.poolHost(), s.networkList(), s.leases.Held()),
		s.pool.ReassertAddrs(ctx, s.poolHost(), s.networkList(), s.leases.HeldAddrs()))
	if err != nil {
		s.log.Warn("the store was wiped or restored and does not take everything back", "err", err)
		return
	}
	s.mu.Lock()
	s.lost, s.absent = false, nil
	s.mu.Unlock()
	s.log.Warn("the store was wiped or restored: the cluster's record, its networks and own blocks were written back")
}
