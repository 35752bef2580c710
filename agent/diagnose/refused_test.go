package diagnose

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/strict"
)

func TestRefusedNamesEachSource(t *testing.T) {
	if c := Refused(nil, 0); c.State != api.CheckOK {
		t.Errorf("nothing refused: got %+v", c)
	}
	var all []strict.Refused
	for i := range shown + 2 {
		all = append(all, strict.Refused{Source: fmt.Sprintf("key %d", i), Why: "not ours", Hint: "consul kv delete"})
	}
	c := Refused(all, 3)
	if c.State != api.CheckWarn || !strings.HasPrefix(c.Detail, "key 0: not ours; ") || !strings.HasSuffix(c.Detail, "; 5 more") || c.Hint != "consul kv delete" {
		t.Errorf("got %+v, want a warning with five sources, the count of the others and one hint", c)
	}
}
