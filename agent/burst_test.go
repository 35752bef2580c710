package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
)

// Ten thousand events a minute do not hold up an attach. Rounds with them and without
// alternate, so that what else the machine does is in both.
func TestFlowAttachBesideABurstOfEvents(t *testing.T) {
	const rounds, attaches = 12, 20
	f := newFlow(t)
	h := f.host(1)
	if _, err := h.Init(t.Context(), api.InitRequest{}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	var took [2][]time.Duration
	emitted := 0
	for round := range rounds {
		loud := round % 2
		stop, done := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			defer func() { done <- n }()
			for tick := time.NewTicker(6 * time.Millisecond); loud == 1; n++ {
				select {
				case <-tick.C:
					h.agent.history.Emit(event.Event{Kind: event.Refused, Subject: "a peer", Text: "what it said is not believed"})
				case <-stop:
					return
				}
			}
		}()
		for range attaches {
			start := time.Now()
			if _, err := h.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
				t.Fatal(err)
			}
			took[loud] = append(took[loud], time.Since(start))
			if err := h.Detach(t.Context(), "blue", "web"); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		emitted += <-done
	}
	var median [2]time.Duration
	for i := range took {
		slices.Sort(took[i])
		median[i] = took[i][len(took[i])/2]
	}
	t.Logf("the median of %d attaches: %v, beside %d events %v", rounds/2*attaches, median[0], emitted, median[1])
	if emitted < rounds/2*attaches {
		t.Errorf("%d events: this test would see nothing", emitted)
	}
	if more := median[1] - median[0]; more > max(2*time.Millisecond, median[0]/4) {
		t.Errorf("events take %v of an attach", more)
	}
}
