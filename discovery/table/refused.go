package table

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	overPause    = time.Minute // after which a host that announced too much is read again
	roomEach     = 512         // bytes of an endpoint, on average, that one host may announce
	refusedShown = 3           // endpoints of one host that a view names as refused
)

// limit is how much of one other owner is held.
type limit struct {
	most int       // endpoints
	now  time.Time // of the last Expire
}

// holds reports whether n endpoints of that many bytes together are held.
func (l *limit) holds(n, bytes int) bool { return n <= l.most && bytes <= l.most*roomEach }

// room reports whether one more op of an owner is held.
func (l *limit) room(o *owner, op op) bool {
	n, bytes := len(o.eps), o.size+len(op.Raw)
	if e, ok := o.eps[op.ID]; ok {
		bytes -= len(e.raw)
	} else {
		n++
	}
	return l.holds(n, bytes)
}

// fits reports whether all of a whole state is held.
func (l *limit) fits(ops []op) bool {
	n, bytes := 0, 0
	for _, op := range ops {
		if op.Kind == opUpsert {
			n, bytes = n+1, bytes+len(op.Raw)
		}
	}
	return l.holds(n, bytes)
}

// mark notes that an owner announces too much, or no longer, and reports whether that
// is news. Of one that does, what is held stays; the rest is not asked for again
// before a pause.
func (l *limit) mark(o *owner, over bool) (news bool) {
	news = over == o.over.IsZero()
	o.over = time.Time{}
	if over {
		o.over = l.now.Add(overPause)
		o.early, o.parts = nil, nil
	}
	return news
}

// pauses reports whether nothing is taken of the owner for now.
func (l *limit) pauses(o *owner) bool { return l.now.Before(o.over) }

// due returns the owners that announced too much and whose pause is over.
func (l *limit) due(os *owners) (due []*owner) {
	for _, id := range sortedIDs(os.byID) {
		if o := os.byID[id]; !o.over.IsZero() && !l.pauses(o) {
			due = append(due, o)
		}
	}
	return due
}

// refused are what the held states say and is not believed, a few of each owner:
// their number is in the hand of others.
func (l *limit) refused(os *owners) (out []discovery.Refusal) {
	for _, id := range sortedIDs(os.byID) {
		o := os.byID[id]
		if o.wrong != "" {
			out = append(out, discovery.Refusal{Host: id, What: "host", Why: o.wrong})
		}
		if !o.over.IsZero() {
			out = append(out, discovery.Refusal{Host: id, What: "host",
				Why: fmt.Sprintf("announces more than %d endpoints (limits.member_endpoints of agentd.yaml), the rest is not taken", l.most)})
		}
		out = append(out, o.refusedEndpoints()...)
	}
	return out
}

func (o *owner) refusedEndpoints() (out []discovery.Refusal) {
	if len(o.refused) == 0 {
		return nil
	}
	ids := slices.SortedFunc(maps.Keys(o.refused), func(a, b discovery.EndpointID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids[:min(len(ids), refusedShown)] {
		out = append(out, discovery.Refusal{Host: o.id, What: "endpoint " + id.String(), Why: o.refused[id]})
	}
	return out
}
