package trial

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/trial/stage"
)

// rateSizes are what is sent to measure a rate; a slow link gets less.
var rateSizes = []int{16 << 20, 512 << 10}

// perfAll is up to how many hosts every pair is measured, which takes three seconds; of
// more hosts each is measured to the next one, so that a run stays shorter than it may be.
const perfAll = 6

// measure measures each pair, one after the other: through the tunnel, and beside it by
// the port that the other host publishes.
func (s *suite) measure(ctx context.Context) {
	for i := range s.cast {
		for j := range s.cast {
			from, to := s.cast[i], s.cast[j]
			if len(s.cast) > perfAll && j != (i+1)%len(s.cast) {
				continue
			}
			if i == j || ctx.Err() != nil || s.gone(from.Host) || s.gone(to.Host) {
				continue
			}
			s.progress(fmt.Sprintf("run %s: how fast %s sends to %s", s.id, from.Host, to.Host))
			actor, inside := Actor(s.id, "a1", i), netip.AddrPortFrom(to.Actors["a1"].Addr, stage.Port)
			row := api.TestPerf{From: from.Host, To: to.Host, Rate: s.rate(ctx, from.Host, actor, inside), RTT: s.rtt(ctx, from.Host, actor, inside)}
			if to.Port != 0 {
				row.Underlay = s.rate(ctx, from.Host, "", netip.AddrPortFrom(to.Addr, to.Port))
			}
			row.Beside = s.rtt(ctx, from.Host, "", netip.AddrPortFrom(to.Addr, 0))
			s.perfs = append(s.perfs, row)
		}
	}
}

// rate is in megabits a second; 0: it could not be measured.
func (s *suite) rate(ctx context.Context, host, actor string, to netip.AddrPort) float64 {
	for _, size := range rateSizes {
		if r := s.figure(ctx, host, stage.Try{From: actor, Kind: stage.Rate, To: to, Size: size}); r.OK && r.Took > 0 {
			return float64(size) * 8 / 1e6 / r.Took.Seconds()
		}
	}
	return 0
}

// rtt is in microseconds; 0: it could not be measured.
func (s *suite) rtt(ctx context.Context, host, actor string, to netip.AddrPort) int64 {
	if r := s.figure(ctx, host, stage.Try{From: actor, Kind: stage.RTT, To: to, Size: 56}); r.OK {
		return max(r.Took.Microseconds(), 1)
	}
	return 0
}

func (s *suite) figure(ctx context.Context, host string, t stage.Try) stage.Result {
	ctx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	a, err := s.Ask(ctx, host, stage.Question{Run: s.id, Do: stage.Attempt, Tries: []stage.Try{t}})
	if err != nil || len(a.Results) != 1 {
		return stage.Result{}
	}
	return a.Results[0]
}
