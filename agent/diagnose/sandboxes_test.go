package diagnose

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
)

func TestSandboxesCheckNamesTheEndpoint(t *testing.T) {
	if c := sandboxes(Facts{}); c.State != api.CheckOK {
		t.Errorf("nothing changed: got %+v", c)
	}
	one := endpoint.Altered{Name: "web", Network: "blue", Sandbox: "/run/netns/c1", How: []string{"no address 10.64.0.5/24", "no default route via 10.64.0.1"},
		Again: "agentctl attach blue --netns c1 --name web --ifname eth0"}
	c := sandboxes(Facts{Altered: []endpoint.Altered{one}})
	if want := "web on blue in /run/netns/c1: no address 10.64.0.5/24, no default route via 10.64.0.1"; c.State != api.CheckWarn || c.Detail != want || c.Hint != one.Again {
		t.Errorf("got %+v", c)
	}
	c = sandboxes(Facts{Altered: make([]endpoint.Altered, shown+3)})
	if !strings.HasSuffix(c.Detail, "; 3 more") {
		t.Errorf("got %+v", c)
	}
}
