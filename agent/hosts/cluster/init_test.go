package cluster_test

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestInitWithoutAConsulSaysWhoCannotJoin(t *testing.T) {
	t.Parallel()
	h := agenttest.NewLab(t, agenttest.Config{Hosts: 1}).Host(1)
	h.Start()
	r := h.Ctl("init", "-o", "json")
	if r.Code != 0 || !strings.Contains(r.Stderr, "hosts of other machines cannot join") || !strings.Contains(r.Stderr, "agentctl init --consul http://ADDRESS:8500") {
		t.Errorf("%s", r)
	}
}
