package engines_test

import (
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// The newest engine makes networks of the cluster as Debian's does, and has those that
// Debian's made.
func TestDockerNewestEngineMakesNetworksOfTheCluster(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	newest, old := l.Host(1).NewNewestEngine(), l.Host(2).NewEngine()
	for _, e := range []*agenttest.Engine{newest, old} {
		e.Start()
	}
	agenttest.DeclaredNetworks(t, newest, old)
	agenttest.TypedHints(t, newest, old)
}
