// Package chronicle reads the histories of the cluster's members as one: each member
// has written down what it saw, and is asked for it. It knows no kind of event, but for
// those that say who had an address.
package chronicle

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/history"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/discovery"
)

// Question is the kind of question that members ask each other.
const Question = "events"

// page is how many events are asked for at once.
const page = 2000

// question asks a member for the next page of its history; answer is that.
type question struct {
	Filter history.Filter `json:"filter"`
	Most   int            `json:"most"`
}

type answer struct {
	Entries []history.Entry `json:"entries"`
	More    bool            `json:"more"`
}

// Answers has members' questions answered out of a journal.
func Answers(j *history.Journal) peers.Answer {
	return peers.Handler(func(ctx context.Context, _ discovery.HostID, q question) (answer, error) {
		return read(ctx, j, q)
	})
}

func read(ctx context.Context, j *history.Journal, q question) (a answer, err error) {
	most := min(max(q.Most, 1), page)
	err = j.Read(ctx, q.Filter, func(e history.Entry) bool {
		if a.More = len(a.Entries) == most; a.More {
			return false
		}
		a.Entries = append(a.Entries, e)
		return true
	})
	return a, err
}

// Chronicle is the histories of a cluster, as one member reads them.
type Chronicle struct {
	Self string // name of this host
	Own  *history.Journal
	// Others are the members that run beside this one, and those that do not.
	Others  func() (running []discovery.Member, silent []api.Unasked)
	Call    peers.Call
	Unasked func(o discovery.Member, err error) api.Unasked // says why one did not answer
}

// askWait is how long a member may take for one page.
const askWait = 10 * time.Second

// source is the history of one member, read page by page.
type source struct {
	name   string
	page   func(ctx context.Context, q question) (answer, error)
	filter history.Filter // After is what was read
	ahead  []history.Entry
	more   bool
	silent string // why it did not answer last
	said   string // what was told of that
}

// fill reads the next page when none is left.
func (s *source) fill(ctx context.Context) {
	if len(s.ahead) > 0 || !s.more {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	a, err := s.page(ctx, question{s.filter, page})
	s.silent = ""
	if err != nil {
		s.more, s.silent = false, err.Error()
		return
	}
	s.ahead, s.more = a.Entries, a.More
}

// take returns the next event that was read.
func (s *source) take() history.Entry {
	e := s.ahead[0]
	s.ahead, s.filter.After = s.ahead[1:], e.ID
	e.Host = cmp.Or(s.name, e.Host) // what a member calls itself is not its to say
	return e
}

// sources are those that a query asks.
func (c Chronicle) sources(host string, all bool, f history.Filter) (out []*source, silent []api.Unasked, err error) {
	if all || host == "" || strings.EqualFold(host, c.Self) {
		out = append(out, &source{name: c.Self, filter: f, more: true, page: func(ctx context.Context, q question) (answer, error) { return read(ctx, c.Own, q) }})
	}
	if !all && len(out) > 0 {
		return out, nil, nil
	}
	running, silent := c.Others()
	for _, o := range running {
		if !all && !strings.EqualFold(o.Name, host) {
			continue
		}
		out = append(out, &source{name: o.Name, filter: f, more: true, page: func(ctx context.Context, q question) (answer, error) {
			a, err := peers.Ask[answer](ctx, c.Call, o.ID, Question, q)
			if err != nil {
				return a, whyError(c.Unasked(o, err).Why)
			}
			return a, nil
		}})
	}
	if !all {
		silent = slices.DeleteFunc(silent, func(u api.Unasked) bool { return !strings.EqualFold(u.Host, host) })
	}
	if len(out)+len(silent) == 0 {
		return nil, nil, api.Errorf(api.KindNotFound, "no host %s", host).WithHint("agentctl members")
	}
	return out, silent, nil
}

// whyError is why a member did not answer, in words for people.
type whyError string

func (e whyError) Error() string { return string(e) }

// fill reads ahead, of all sources side by side.
func fill(ctx context.Context, all []*source) {
	done := make(chan struct{}, len(all))
	for _, s := range all {
		go func() { s.fill(ctx); done <- struct{}{} }()
	}
	for range all {
		<-done
	}
}

// next is the oldest event that was read of any source; nil: there is none.
func next(all []*source) *source {
	var oldest *source
	for _, s := range all {
		if len(s.ahead) > 0 && (oldest == nil || s.ahead[0].At.Before(oldest.ahead[0].At)) {
			oldest = s
		}
	}
	return oldest
}

// filterOf checks a query.
func filterOf(q api.EventQuery, now time.Time) (f history.Filter, err error) {
	f = history.Filter{Network: q.Network, Endpoint: q.Endpoint}
	for key, at := range map[string]struct {
		text string
		into *time.Time
	}{"since": {q.Since, &f.Since}, "until": {q.Until, &f.Until}} {
		if at.text == "" {
			continue
		}
		if *at.into, err = api.ParseTime(key, at.text, now); err != nil {
			return f, err
		}
	}
	for _, k := range q.Kinds {
		if !slices.Contains(event.Kinds(), event.Kind(k)) {
			return f, api.Errorf(api.KindMisuse, "kind %s: there is none of this name", k).WithHint("agentctl events --help")
		}
		f.Kinds = append(f.Kinds, event.Kind(k))
	}
	if q.Follow && q.Since == "" && q.After == "" {
		f.Since = now
	}
	return f, nil
}

// item is an event as the API has it.
func item(e history.Entry, cursor string) api.EventItem {
	return api.EventItem{Cursor: cursor, Event: &api.Event{At: e.At, Host: e.Host, Kind: string(e.Kind), Subject: e.Subject, Network: e.Network,
		Endpoint: e.Endpoint, Addr: e.Addr, By: e.By, Text: e.Text, Detail: e.Detail}}
}
