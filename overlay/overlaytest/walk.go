package overlaytest

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
)

// Walk takes one kernel through all states, in order and then rounds times in
// random order, and compares it after every step with a fresh kernel that was
// taken to that state alone: nothing may be left of what was before.
func Walk(t *testing.T, states []NamedState, rounds int, open func(t *testing.T) overlay.Kernel) {
	want := make([]string, len(states))
	for i, s := range states {
		t.Run("fresh/"+s.Name, func(t *testing.T) {
			k := open(t)
			want[i] = step(t, k, overlay.New(k, "weft", slog.New(slog.DiscardHandler)), s.State)
		})
	}
	k := open(t)
	o := overlay.New(k, "weft", slog.New(slog.DiscardHandler))
	from := "nothing"
	for round := range rounds + 1 {
		order := rand.Perm(len(states))
		for i := range states {
			if round > 0 {
				i = order[i]
			}
			t.Run(from+" to "+states[i].Name, func(t *testing.T) {
				if diff := cmp.Diff(want[i], step(t, k, o, states[i].State)); diff != "" {
					t.Errorf("kernel (-fresh +walked):\n%s", diff)
				}
			})
			from = states[i].Name
		}
	}
}

// step does what an agent does: endpoints that are gone are detached, the state
// is set, new endpoints are attached.
func step(t *testing.T, k overlay.Kernel, o *overlay.Overlay, s overlay.State) string {
	t.Helper()
	ctx := t.Context()
	wanted := map[string]bool{}
	for _, n := range s.Networks {
		for _, p := range n.Ports {
			wanted[p.Endpoint] = true
		}
	}
	attached, err := o.Attached(ctx)
	must(t, err)
	for _, id := range attached {
		if !wanted[id] {
			must(t, o.Detach(ctx, id))
		}
	}
	must(t, o.Set(ctx, s))
	for _, n := range s.Networks {
		for _, p := range n.Ports {
			must(t, o.Attach(ctx, Endpoint(n, p)))
		}
	}
	converged(ctx, t, o)
	have, err := k.List(ctx)
	must(t, err)
	return Text(have)
}

// converged checks that one pass was enough.
func converged(ctx context.Context, t *testing.T, o *overlay.Overlay) {
	t.Helper()
	drift, _, err := o.Verify(ctx)
	must(t, err)
	for _, d := range drift {
		t.Errorf("%s after Set: %s", d.Kind, d.Object)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
