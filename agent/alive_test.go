package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

func TestHungPassIsNotAlive(t *testing.T) {
	h := newFlow(t).host(1)
	select {
	case <-h.agent.Ready():
	default:
		t.Error("the API answers but the agent is not ready")
	}
	if err := h.agent.Alive(t.Context()); err != nil {
		t.Errorf("without a cluster: %v", err)
	}
	if _, err := h.Init(t.Context(), api.InitRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.agent.Alive(t.Context()); err != nil {
		t.Errorf("as a member: %v", err)
	}

	hang := make(chan struct{})
	h.hang.Store(&hang)
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.agent.Alive(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a pass hangs: %v, want %v", err, context.DeadlineExceeded)
	}
	// The API goes on: it alone would not notice.
	if _, err := h.Status(t.Context()); err != nil {
		t.Error(err)
	}
	h.hang.Store(nil)
	close(hang)
	if err := h.agent.Alive(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}
