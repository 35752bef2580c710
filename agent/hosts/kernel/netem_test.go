package kernel_test

import (
	"fmt"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/agent/api"
)

// refreshes are how many requests a figure is made of.
const refreshes = 60

// assertProofsAgree delays, loses, doubles and reorders what the machine sends, and
// checks that the other member's proofs say so: what is lost is no failure.
func (s *site) assertProofsAgree() {
	s.t.Helper()
	before := s.proofs()
	s.m.Must("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "200ms", "5ms", "loss", "4.9%", "duplicate", "5%", "reorder", "20%")
	little := s.proofs()
	s.m.Must("tc", "qdisc", "change", "dev", "eth0", "root", "netem", "loss", "25%")
	much := s.proofs()
	s.m.Must("tc", "qdisc", "del", "dev", "eth0", "root")
	show := func(p api.Proof) string {
		return fmt.Sprintf("%v, %.1f %% lost", time.Duration(p.Median)*time.Microsecond, p.Loss)
	}
	s.t.Logf("proofs: %s; with 200 ms and 4.9 %% of loss: %s; with 25 %%: %s", show(before), show(little), show(much))
	if more := little.Median - before.Median; more < 150_000 || more > 400_000 {
		s.t.Errorf("200 ms of delay are %d µs", more)
	}
	// Of 60 requests 3 and 15 are lost at the mean, and four times the deviation is 7 and 14.
	if little.Loss > 18 || much.Loss < 2 || much.Loss > 50 {
		s.t.Errorf("loss of 4.9 and 25 %% are %.1f and %.1f", little.Loss, much.Loss)
	}
}

// proofs makes the tunnel between the two be proven many times, and returns the last.
func (s *site) proofs() (last api.Proof) {
	s.t.Helper()
	c := api.NewClient(s.h.Socket())
	for range refreshes {
		agenttest.Eventually(s.t, time.Minute, "the tunnel is proven", func() error {
			all, err := c.Proofs(s.t.Context(), true)
			if err == nil && len(all) != 1 {
				err = fmt.Errorf("%d proofs", len(all))
			}
			if err != nil {
				return err
			}
			last = all[0]
			return nil
		})
		if last.Out == "failing" || last.In == "failing" {
			s.t.Errorf("the tunnel works, and this is said: %+v", last)
			return last
		}
	}
	return last
}
