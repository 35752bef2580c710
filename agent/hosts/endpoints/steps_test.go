package endpoints_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What the README begins with, from two hosts that know nothing to a ping by name.
func TestFirstStepsFromInitToAPingByName(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.Start()
	two.Start()
	one.Init()
	two.Join(one)
	one.CreateNetwork("blue")
	web, _ := one.Endpoint("blue", "web")
	client, _ := two.Endpoint("blue", "client")
	for name, from := range map[string]*agenttest.Sandbox{"web": client, "client": web} {
		agenttest.Eventually(t, 5*time.Second, "ping "+name, func() error {
			if r := from.Exec("ping", "-c", "1", "-W", "2", name); r.Code != 0 {
				return errors.New(r.String())
			}
			return nil
		})
	}
	for _, h := range l.Hosts {
		if out := h.MustCtl("status"); !strings.HasPrefix(out, h.Name+": ok") || strings.Contains(out, "warn") {
			t.Errorf("%s", out)
		}
	}
}
