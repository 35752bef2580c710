package discovery

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLogsNameMembers(t *testing.T) {
	id := HostID{0xab, 0xcd}
	v := View{Members: []Member{{ID: id, Name: "h3"}}}
	for _, tt := range []struct {
		v    View
		want string
	}{{v, "msg=gone member=h3 id=" + id.String() + " err=x\n"}, {View{}, "msg=gone member=" + id.String() + " id=" + id.String() + " err=x\n"}} {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Warn("gone", tt.v.LogMember(id), "err", "x")
		if !strings.HasSuffix(out.String(), tt.want) {
			t.Errorf("%q, want %q at its end", out.String(), tt.want)
		}
	}
}
