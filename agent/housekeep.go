package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/weft-net/weft/dns"
)

// housekeep does what depends on time or on others: it finishes deletions,
// leases the host's own addresses, refreshes the header and re-asserts what a
// wiped store lost.
func (s *session) housekeep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	notes := notes{log: s.log, unnamed: map[string]bool{}}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		notes.store(s.pool.Healthy())
		s.finishDeletions(ctx)
		s.leaveDeleted(ctx)
		s.freeUnclaimed(ctx, time.Now())
		s.hostAddresses(ctx)
		s.lookAsking()
		if n%10 == 0 {
			s.directory.SetHeader(s.describe)
			s.reassert(ctx)
			notes.names(s.unnamed())
			s.ports.Retry()
		}
		if n%60 == 0 {
			s.freeAgain(ctx)
		}
	}
}

// notes logs what begins and ends, not each time that it is found again.
type notes struct {
	log     *slog.Logger
	away    time.Time       // since when the store does not answer; zero: it does
	unnamed map[string]bool // names that were said to be impossible
}

// store says when the store goes away, and when it is back.
func (n *notes) store(err error) {
	switch {
	case err != nil && n.away.IsZero():
		n.away = time.Now()
		n.log.Warn("the store cannot be used: what is attached goes on, new networks and blocks wait", "err", err)
	case err == nil && !n.away.IsZero():
		n.log.Info("the store is back", "after", time.Since(n.away).Round(time.Second))
		n.away = time.Time{}
	}
}

// names says once of each name that it is not served.
func (n *notes) names(all []string) {
	for _, name := range all {
		if !n.unnamed[name] {
			n.unnamed[name] = true
			n.log.Warn("not a name that DNS can carry: it is not served", "name", name)
		}
	}
}

// unnamed are the names of the last pass that DNS cannot carry.
func (s *session) unnamed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return unservable(s.zone)
}

// unservable are the names and aliases of a zone that DNS cannot carry, each as
// "NAME on NETWORK".
func unservable(z dns.Zone) (out []string) {
	for _, n := range z.Networks {
		for _, e := range n.Names {
			for _, name := range append([]string{e.Name}, e.Aliases...) {
				if !dns.Servable(name) {
					out = append(out, name+" on "+n.Name)
				}
			}
		}
	}
	return out
}
