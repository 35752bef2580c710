package pool

import (
	"context"
	"strings"

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
	for _, h := range readAll(s, folder, pairs, parseHolder) { // what is refused is never freed by guess
		if h.host == id {
			out = append(out, drop(h.key, h.index))
		}
	}
	return out, nil
}

// holder is whose a key below blocks/ or ips/ is.
type holder struct {
	key   string
	index uint64
	host  discovery.HostID
}

func parseHolder(kv *api.KVPair) (h holder, err error) {
	h.key, h.index = kv.Key, kv.ModifyIndex
	if strings.HasPrefix(kv.Key, folderBlocks) {
		b, err := parseBlock(kv)
		h.host = b.Host
		return h, err
	}
	r, err := parseReservation(kv)
	h.host = r.Host
	return h, err
}
