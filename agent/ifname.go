package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/weft-net/weft/overlay"
)

// attachFree attaches under the interface's name that the user chose, else under
// the first ethN that is free: one that somebody else's interface has in the
// sandbox is passed over.
func (s *session) attachFree(ctx context.Context, w wantedEndpoint) (Local, error) {
	if w.ifname != "" {
		return s.attach(ctx, w)
	}
	for taken := map[string]bool{}; ; taken[w.ifname] = true {
		w.ifname = s.freeIfname(w.cookie, taken)
		l, err := s.attach(ctx, w)
		if !errors.Is(err, overlay.ErrIfnameTaken) {
			return l, err
		}
	}
}

// freeIfname is the first ethN that no endpoint of the sandbox has, and that is
// not taken otherwise.
func (s *session) freeIfname(cookie uint64, taken map[string]bool) string {
	taken = maps.Clone(taken)
	for _, o := range s.journal.all() {
		if o.Cookie == cookie {
			taken[o.Ifname] = true
		}
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !taken[name] {
			return name
		}
	}
}
