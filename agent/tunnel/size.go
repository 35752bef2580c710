package tunnel

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

// LeastMTU is the smallest underlay that a host announces (RFC 8200, section 5): with
// less the others would not believe it. A path that carries less fails.
const LeastMTU = 1280

const (
	sizeShare   = 2200 * time.Millisecond // for each member: so often a host sends a large frame
	raiseAfter  = time.Minute             // that the full size has passed, before it is announced again
	searchAgain = 4 * time.Minute         // for a size above the one that passes
	sizeTries   = 3
	rungs       = 6 // sizes that are tried at once
)

// sized is what is known of the sizes that get to one member.
type sized struct {
	passes   int       // bytes of an underlay packet; 0: not known
	low      bool      // less than the devices of both carry
	at       time.Time // of the last try
	searched time.Time // when the largest size that passes was
	mended   time.Time // since when the full size passes again; zero: it does not
	why      string
	hint     string
}

// due reports whether it is time to prove the size again.
func (z sized) due(now time.Time, period time.Duration, members int) bool {
	return now.Sub(z.at) >= max(period/2, sizeShare*time.Duration(members))
}

// set notes the largest size that passed of those that should. One that was low stays
// so for a while: networks that go up and down again stall twice.
func (z *sized) set(now time.Time, full, passes int, searched bool) {
	z.at = now
	if searched {
		z.searched = now
	}
	switch {
	case passes < full:
		z.passes, z.low, z.mended = passes, true, time.Time{}
	case z.low && z.mended.IsZero():
		z.mended = now
	case z.low && now.Sub(z.mended) < raiseAfter:
	default:
		*z = sized{passes: full, at: now}
	}
}

// say is what is wrong in words, and what to type about it.
func (z *sized) say(self, peer host, full, overhead int) {
	if !z.low {
		return
	}
	headers := 28 // of IPv4 and ICMP
	if peer.addr.Is6() {
		headers = 48
	}
	z.hint = fmt.Sprintf("ping -M do -c 1 -s %d %s # on %s: something on the way drops larger packets and says nothing", full-headers, peer.addr, self.name)
	if z.passes < LeastMTU {
		z.why = fmt.Sprintf("packets of %d bytes do not pass from %s to %s, nor of %d: no MTU is so low", full, self.name, peer.name, LeastMTU)
		return
	}
	z.why = fmt.Sprintf("packets of %d bytes do not pass from %s to %s, of %d they do: the networks' MTU is %d until larger ones pass",
		full, self.name, peer.name, z.passes, z.passes-overhead)
}

// state is that of the proof: what the networks' MTU follows is mended.
func (z sized) state() State {
	switch {
	case z.passes == 0 && !z.low:
		return Unproven
	case z.low && z.passes < LeastMTU:
		return Failing
	}
	return OK
}

// size sets the largest size that passes to a member, and returns what was known before.
func (r *records) size(id discovery.HostID, set func(z *sized)) (before, now sized) {
	r.with(id, func(rec *record) {
		before = rec.sized
		set(&rec.sized)
		rec.size = rec.sized.state()
		now = rec.sized
	})
	return before, now
}

// sizedOf is what is known of the sizes to a member.
func (r *records) sizedOf(id discovery.HostID) (z sized) {
	r.with(id, func(rec *record) { z = rec.sized })
	return z
}

// path is the largest underlay packet that gets to every member, in bytes, as far as
// the proofs say that it is less than the devices carry; 0: nothing is less.
func (r *records) path() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := 0
	for _, rec := range r.all {
		if size := max(rec.sized.passes, LeastMTU); rec.sized.low && (path == 0 || size < path) {
			path = size
		}
	}
	return path
}

// search returns the largest size that passes; 0: none from low. high does not pass. try
// returns the largest of a few that does.
func search(low, high, hint int, try func(sizes []int) int) int {
	found := 0
	for high-low > 1 || found == 0 {
		sizes := ladder(low, high)
		if found == 0 && low < hint && hint+1 < high {
			sizes = append(sizes, hint, hint+1)
			slices.Sort(sizes)
			sizes = slices.Compact(sizes)
		}
		largest := try(sizes)
		if largest == 0 || largest >= high { // the latter is late
			return max(found, largest)
		}
		if i := slices.Index(sizes, largest); i+1 < len(sizes) {
			high = sizes[i+1]
		}
		found, low = largest, largest
	}
	return found
}

// ladder is a few sizes from low to below high.
func ladder(low, high int) (sizes []int) {
	for i := range rungs {
		sizes = append(sizes, low+(high-low)*i/rungs)
	}
	return slices.Compact(sizes)
}

// try sends a few sizes, the last one the largest, each again while no larger one is
// answered. It returns the largest that ever was in this volley; 0: none.
func (p *prober) try(ctx context.Context, v *volley, sizes []int) int {
	for range sizeTries {
		reached := p.reached(v)
		for _, size := range sizes {
			if size > reached {
				p.fire(ctx, v, size-p.overhead)
			}
		}
		if v.await(ctx, gap, func() bool { return p.reached(v) >= sizes[len(sizes)-1] }) {
			break
		}
	}
	return p.reached(v)
}

// reached is the largest underlay packet of a volley that was answered; 0: none.
func (p *prober) reached(v *volley) int {
	if largest := v.largest(); largest > 0 {
		return largest + p.overhead
	}
	return 0
}

// size finds out which sizes pass to a member.
func (p *prober) size(ctx context.Context, to peer) {
	v := p.wire.begin(to.id)
	defer v.end()
	passes, searched := p.try(ctx, v, []int{to.full}), false
	known := p.records.sizedOf(to.id)
	if passes == 0 && known.low && known.passes > 0 && time.Since(known.searched) < searchAgain {
		passes = p.try(ctx, v, []int{known.passes})
	}
	if passes == 0 {
		searched = true
		passes = search(min(LeastMTU, to.full-1), to.full, p.records.path(), func(sizes []int) int { return p.try(ctx, v, sizes) })
		if passes == 0 && p.try(ctx, v, []int{p.overhead + frameSize}) == 0 {
			return // nothing passes at all: that is not the size's matter
		}
		// What was lost for another reason, or was late, passes now.
		if passes = max(passes, p.try(ctx, v, []int{to.full})); passes < LeastMTU {
			passes = 0
		}
	}
	if ctx.Err() == nil {
		p.sized(to, passes, searched)
	}
}

// sized notes what was found.
func (p *prober) sized(to peer, passes int, searched bool) {
	path := p.records.path()
	before, z := p.records.size(to.id, func(z *sized) {
		z.set(time.Now(), to.full, passes, searched)
		z.why, z.hint = "", ""
		z.say(p.self, to.host, to.full, p.overhead)
	})
	switch {
	case z.why == before.why:
	case z.why == "":
		p.tell.ok(to, provenSize, "large packets pass to "+to.name+" again")
	case z.state() == Failing:
		p.tell.failing(to, provenSize, z.why, z.hint)
	default:
		p.tell.lowered(to, z.passes, z.why, z.hint)
	}
	if p.records.path() != path {
		p.changed()
	}
}
