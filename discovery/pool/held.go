package pool

import (
	"context"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
)

// dropHeld deletes the keys of a folder whose values name the host, and nothing
// that changed hands since it was listed.
func (s *store) dropHeld(ctx context.Context, folder string, id discovery.HostID) (n int, err error) {
	for {
		held, err := s.heldBy(ctx, folder, id)
		if err != nil || len(held) == 0 {
			return n, err
		}
		for len(held) > 0 {
			chunk := held[:min(len(held), maxOps-1)]
			held = held[len(chunk):]
			out, err := s.commit(ctx, chunk...)
			if err != nil {
				return n, err
			}
			if out.ok() {
				n += len(chunk)
			}
		}
	}
}

// heldBy are the deletions of what the host holds below the folder.
func (s *store) heldBy(ctx context.Context, folder string, id discovery.HostID) ([]*api.KVTxnOp, error) {
	pairs, err := s.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	var out []*api.KVTxnOp
	for _, kv := range pairs {
		var v struct {
			Host discovery.HostID `json:"host"`
		}
		if err := decode(kv, &v); err != nil {
			s.log.Warn("unreadable key of the store", "key", kv.Key, "err", err)
			continue // never freed by guess
		}
		if v.Host == id {
			out = append(out, drop(kv.Key, kv.ModifyIndex))
		}
	}
	return out, nil
}
