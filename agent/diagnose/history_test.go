package diagnose

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/history"
)

func TestHistoryCheck(t *testing.T) {
	for _, tt := range []struct {
		state        history.State
		want         string
		detail, hint string
	}{
		{history.State{}, api.CheckOK, "events are written down", ""},
		{history.State{Lost: 7}, api.CheckOK, "7 could not be", ""},
		{history.State{Err: syscall.ENOSPC, Since: time.Unix(0, 0), Lost: 7}, api.CheckWarn, "since 1970-01-01T00:00:00Z, 7 so far: no space left", "df -h /d"},
		{history.State{Err: fmt.Errorf("/d/x: %w", history.ErrForeign)}, api.CheckWarn, "/d/x: not written by weft", "mv /d /d.foreign"},
	} {
		c := History("/d", tt.state)
		if c.State != tt.want || !strings.Contains(c.Detail, tt.detail) || !strings.HasPrefix(c.Hint, tt.hint) || (c.Hint == "") != (tt.hint == "") {
			t.Errorf("%+v: %+v", tt.state, c)
		}
	}
}
