package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/pool"
)

// Who makes a cluster of one machine hears so before anything is made, with the line
// for several; with a Consul there is nothing to hear.
func TestFlowInitSaysWhoCannotJoinBeforeItMakesAnything(t *testing.T) {
	var steps []string
	if _, err := newFlow(t).host(1).Init(t.Context(), api.InitRequest{}, func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 || !strings.HasPrefix(steps[0], "warning: ") || !strings.Contains(steps[0], initWithConsul) {
		t.Errorf("said %q", steps)
	}
	steps = nil
	if _, err := newFlow(t).host(1).Init(t.Context(), api.InitRequest{Consul: "http://192.0.2.10:8500"}, func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, "warning: ") }) {
		t.Errorf("with a Consul: %q", steps)
	}
}

// The hint of an init whose Consul does not answer is the line with another address,
// and not one that waits for what nobody made.
func TestFlowInitWithoutAnAnswerNamesTheLineToType(t *testing.T) {
	f := newFlow(t)
	f.altered = func(p Pool) Pool {
		p.Founding = alteredFounding{p.Founding, func(context.Context, pool.Meta, pool.Host) error { return pool.ErrUnavailable }}
		return p
	}
	_, err := f.host(1).Init(t.Context(), api.InitRequest{Consul: "http://192.0.2.250:8500"}, nil)
	e, ok := errors.AsType[*api.Error](err)
	if !ok || !strings.HasPrefix(e.Hint, initWithConsul+" # ") || !strings.Contains(e.Hint, "http://192.0.2.250:8500") {
		t.Errorf("got %+v", err)
	}
}
