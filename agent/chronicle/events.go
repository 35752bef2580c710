package chronicle

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// Events implements api.Service. It follows the own journal as it is written, and asks
// other members once a second.
func (c Chronicle) Events(ctx context.Context, q api.EventQuery, each func(api.EventItem) error) error {
	f, err := filterOf(q, time.Now())
	if err != nil {
		return err
	}
	all, silent, err := c.sources(q.Host, q.All, f)
	if err != nil {
		return err
	}
	if err := resume(all, q.After); err != nil {
		return err
	}
	for _, u := range silent {
		if err := each(api.EventItem{Unasked: &u}); err != nil {
			return err
		}
	}
	feed := c.Own.Follow() // before the first look, so that nothing is between them
	defer feed.Close()
	if err := each(api.EventItem{}); err != nil {
		return err
	}
	for {
		if err := drain(ctx, all, each); err != nil || !q.Follow || !f.Until.IsZero() && time.Now().After(f.Until) {
			return err
		}
		again := time.NewTimer(askAgain)
		select {
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		case _, more := <-feed.C:
			again.Stop()
			for ; more && len(feed.C) > 0; _, more = <-feed.C { // one look finds them all
			}
			switch {
			case feed.Slow():
				return api.Errorf(api.KindFailed, "the reader is too slow").WithHint("agentctl events --since 10m # shows what was missed")
			case !more:
				return api.Errorf(api.KindUnreachable, "the agent stops").WithHint("systemctl status agentd")
			}
			for _, s := range all {
				s.more = s.more || s.name == c.Self
			}
		case <-again.C:
			for _, s := range all {
				s.more = true
			}
		}
	}
}

// askAgain is how often a query that follows asks other members.
const askAgain = time.Second

// drain calls each with all that the sources have, merged by time, and says which of
// them did not answer, once.
func drain(ctx context.Context, all []*source, each func(api.EventItem) error) error {
	for n := 1; ; n++ {
		fill(ctx, all)
		for _, s := range all {
			if s.silent != "" && s.silent != s.said && ctx.Err() == nil {
				if err := each(api.EventItem{Unasked: &api.Unasked{Host: s.name, Why: s.silent}}); err != nil {
					return err
				}
			}
			s.said = s.silent
		}
		s := next(all)
		if s == nil {
			return ctx.Err()
		}
		e := s.take()
		mark := ""
		if len(all) <= fewSources || n%page == 0 || next(all) == nil {
			mark = cursor(all)
		}
		if err := each(item(e, mark)); err != nil {
			return err
		}
	}
}

// fewSources are so many that every event says where all of them are.
const fewSources = 8

// cursor says how far each source was read: NAME:NUMBER, with commas between.
func cursor(all []*source) string {
	var out []string
	for _, s := range all {
		if s.filter.After > 0 {
			out = append(out, s.name+":"+strconv.FormatUint(s.filter.After, 10))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// resume has sources read on from where a cursor says.
func resume(all []*source, cursor string) error {
	if cursor == "" {
		return nil
	}
	for one := range strings.SplitSeq(cursor, ",") {
		name, number, ok := strings.Cut(one, ":")
		after, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			return api.Errorf(api.KindMisuse, "%s", fmt.Sprintf("after: %.40q is no id of an event", one)).WithHint("agentctl events --since 1h")
		}
		for _, s := range all {
			if s.name == name {
				s.filter.After = after
			}
		}
	}
	return nil
}
