package docker

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// comparing is an agent that must not be handed a list.
type comparing struct {
	*fake
	t *testing.T
}

func (c comparing) Compare(context.Context, time.Time, map[string]bool) ([]string, bool) {
	c.t.Error("endpoints were compared with a list that nobody made")
	return nil, false
}

// A host that was taken out of the cluster lists no networks: its containers
// go on.
func TestNothingIsComparedBeforeNetworksWereListed(t *testing.T) {
	newEngine(comparing{newFake(), t}, slog.New(slog.DiscardHandler)).compare(t.Context())
}
