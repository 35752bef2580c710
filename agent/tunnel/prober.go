package tunnel

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/discovery"
)

const (
	// gap is how long a reply is waited for before the next request. One that comes
	// later counts as well, to the end of the volley.
	gap = 250 * time.Millisecond
	// half is how many requests are sent before the member is asked about them, and
	// again while both ends look at their devices.
	half = mostAsked / 2
	// askFor is how long an answer over gossip is waited for.
	askFor = 2 * time.Second
)

// What is proven of a member, as its events name it.
const (
	provenWays = "ways"
	provenSize = "size"
	provenBulk = "bulk"
)

// prober proves the tunnel to one member at a time, as often as it is told.
type prober struct {
	self     host
	id       discovery.HostID
	port     uint16
	overhead int // bytes that the tunnel takes of an underlay packet
	call     func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
	changed  func() // the path is another
	tell     teller

	wire    *wire
	watch   *watch
	bulks   *bulks
	records *records
	limit   *rate.Limiter // of frames; nil: none
}

// unhurried is the prober for somebody who waits: its frames are not held back.
func (p *prober) unhurried() *prober {
	out := *p
	out.limit = nil
	return &out
}

// fire sends a request when there is room for it among those to all members.
func (p *prober) fire(ctx context.Context, v *volley, size int) {
	if p.limit == nil || p.limit.Wait(ctx) == nil {
		v.fire(size)
	}
}

// prove finds out whether frames pass between this host and a member, and notes it. It
// returns why they do not and what to type about it.
func (p *prober) prove(ctx context.Context, to peer) (why, hint string) {
	v := p.wire.begin(to.id)
	defer v.end()
	found, err := p.find(ctx, v)
	if v.some() {
		p.settle(ctx, v)
		if before := p.records.proved(to.id, time.Now(), v.trips()); before != "" {
			p.tell.ok(to, provenWays, "packets pass between this host and "+to.name+" again")
		}
		return "", ""
	}
	why, hint = found.say(p.self, to.host, p.port)
	switch {
	case ctx.Err() != nil:
	case err != nil && !errors.Is(err, errOlder):
		// The member may be gone, or this host alone: gossip will say which.
		p.records.lost(to.id, time.Now(), v.trips())
	case p.records.failed(to.id, time.Now(), found, why, hint):
		p.tell.failing(to, provenWays, why, hint)
	}
	return why, hint
}

// find sends requests until one is answered. When none is, it asks the member which
// of them came, has both ends look at their devices and tries again. An error means
// that the member did not answer over gossip either.
func (p *prober) find(ctx context.Context, v *volley) (finding, error) {
	if p.burst(ctx, v) {
		return finding{}, nil
	}
	p.watch.begin()
	_, err := p.ask(ctx, v) // it looks from now on
	if err != nil || p.burst(ctx, v) {
		return finding{}, err
	}
	theirs, err := p.ask(ctx, v)
	// A host that is busy answers late, over gossip and in the tunnel.
	if err != nil || v.await(ctx, gap, v.some) {
		return finding{}, err
	}
	return judge(evidence{
		looked:  p.watch.looks(),
		left:    p.watch.passed(true, requestKind, p.id, v.first),
		arrived: p.watch.passed(false, replyKind, v.to, v.first),
	}, theirs), nil
}

// burst sends a few requests and reports whether one was answered.
func (p *prober) burst(ctx context.Context, v *volley) bool {
	for range half {
		p.fire(ctx, v, 0)
		if v.await(ctx, gap, v.some) {
			return true
		}
	}
	return false
}

// settle waits a little for replies that are late.
func (p *prober) settle(ctx context.Context, v *volley) {
	if len(v.trips()) > 1 {
		v.await(ctx, 2*gap, v.every)
	}
}

// ask asks a member what it knows of a volley.
func (p *prober) ask(ctx context.Context, v *volley) (evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answer, err := p.call(ctx, v.to, question(v.first, len(v.trips())))
	if err != nil {
		return evidence{}, err
	}
	return parseAnswer(answer)
}
