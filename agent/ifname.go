package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/weft-net/weft/overlay"
)

// plug makes the interface of an endpoint. A name that another interface of the
// sandbox has is passed over, unless the user chose it.
func (s *session) plug(ctx context.Context, w wantedEndpoint, l *Local) error {
	taken := map[string]bool{}
	for {
		err := s.overlay.Attach(ctx, s.link(w.network, *l))
		if w.ifname != "" || !errors.Is(err, overlay.ErrIfnameTaken) {
			return err
		}
		taken[l.Ifname] = true
		l.Ifname = s.freeIfname(w.cookie, taken)
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
