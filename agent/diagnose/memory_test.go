package diagnose

import (
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

func TestMemoryKnowsSinceWhen(t *testing.T) {
	var m Memory
	t0 := time.Unix(1_000_000, 0)
	look := func(after int, states ...string) []api.Check {
		var all []api.Check
		for _, s := range states {
			all = append(all, api.Check{Name: "docker", State: s})
		}
		m.Note(all, t0.Add(time.Duration(after)*time.Second))
		return all
	}
	if c := look(0, api.CheckOK, api.CheckWarn); !c[0].Since.IsZero() || !c[1].Since.Equal(t0) {
		t.Errorf("at first: %+v", c)
	}
	if c := look(5, api.CheckFail, api.CheckWarn); !c[0].Since.Equal(t0.Add(5*time.Second)) || !c[1].Since.Equal(t0) {
		t.Errorf("one fails, the other goes on: %+v", c)
	}
	if c := look(9, api.CheckFail, api.CheckOK); !c[0].Since.Equal(t0.Add(5*time.Second)) || !c[1].Since.IsZero() {
		t.Errorf("the other is mended: %+v", c)
	}
	if c := look(12, api.CheckWarn, api.CheckWarn); !c[0].Since.Equal(t0.Add(12*time.Second)) || !c[1].Since.Equal(t0.Add(12*time.Second)) {
		t.Errorf("both in another state: %+v", c)
	}
	own := []api.Check{{Name: "membership", State: api.CheckFail, Since: t0}}
	if m.Note(own, t0.Add(time.Hour)); !own[0].Since.Equal(t0) {
		t.Errorf("what a check knows itself is lost: %+v", own)
	}
}
