package discovery

import (
	"cmp"
	"log/slog"
)

// LogMember is how each line of a log calls a member: member=NAME id=ID. An empty name
// is one that is not known.
func LogMember(name string, id HostID) slog.Attr {
	return slog.Group("", slog.String("member", cmp.Or(name, id.String())), slog.String("id", id.String()))
}

// LogMember is LogMember by the names of the view.
func (v View) LogMember(id HostID) slog.Attr { return LogMember(v.Member(id).Name, id) }
