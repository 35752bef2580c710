package overlay

import (
	"log/slog"
	"strings"
	"time"
)

// Repair is what a pass of Run changed because another program had changed it.
type Repair struct {
	Commands []string       // the first of them, as an operator would type them
	Objects  int            // all of them
	Kinds    map[string]int // of these, by the words of Change.Kind
	Quarrels []string       // commands that had to be repeated more than three times in a minute
}

// repaired is how many commands of one repair are told.
const repaired = 16

// repairs gathers what is repaired, and remembers what comes back.
type repairs struct {
	tell func(Repair)        // may be nil
	now  *Repair             // of the round under way; nil: none is gathered
	had  *view               // of the kernel when the pass before ended; nil: not known
	last map[Key][]time.Time // when an object was repaired
	said map[Key]time.Time   // when a quarrel about it was told
}

const (
	quarrelTimes = 3 // repairs in quarrelTime that are no quarrel yet
	quarrelTime  = time.Minute
	quarrelAgain = 10 * time.Minute // until the same quarrel is told again
	mostRepaired = 4096             // objects that are remembered
)

// OnRepair has repairs told to f, which must not block. It is called before Run.
func (o *Overlay) OnRepair(f func(Repair)) { o.repairs.tell = f }

// note adds a change to the repair and reports whether it is one: the kernel had the object as it is
// put now, or did not have what is deleted. Else the state, or the host around the
// networks, is another one, or what failed before works now.
func (r *repairs) note(o Object, deleting bool, fabric string, now time.Time) bool {
	if r.now == nil || r.had == nil {
		return false
	}
	if had := r.had.get(o.Key()); deleting && had != nil || !deleting && had != o {
		return false
	}
	command := named(Command(o, deleting), fabric)
	if len(r.now.Commands) < repaired {
		r.now.Commands = append(r.now.Commands, command)
	}
	r.now.Objects++
	r.now.Kinds[kinds[kindOf(o)]]++
	if r.quarrel(o.Key(), now) {
		r.now.Quarrels = append(r.now.Quarrels, command)
	}
	return true
}

// quarrel reports whether an object was repaired too often, once for a while.
func (r *repairs) quarrel(k Key, now time.Time) bool {
	if len(r.last) >= mostRepaired {
		clear(r.last)
	}
	var recent []time.Time
	for _, at := range r.last[k] {
		if now.Sub(at) < quarrelTime {
			recent = append(recent, at)
		}
	}
	r.last[k] = append(recent, now)
	if len(r.last[k]) <= quarrelTimes || now.Sub(r.said[k]) < quarrelAgain {
		return false
	}
	if len(r.said) >= mostRepaired {
		clear(r.said)
	}
	r.said[k] = now
	return true
}

// remember takes what the kernel has at the end of a pass.
func (r *repairs) remember(now *view) {
	if now != nil {
		r.had = now
	}
}

// begin gathers from now on. Only the first round of a pass is gathered: what a second
// one puts, the first has taken away.
func (r *repairs) begin() {
	r.now = &Repair{Kinds: map[string]int{}}
	if r.last == nil {
		r.last, r.said = map[Key][]time.Time{}, map[Key]time.Time{}
	}
}

// end logs and tells what was gathered.
func (r *repairs) end(log *slog.Logger) {
	now := r.now
	if r.now = nil; now == nil || now.Objects == 0 {
		return
	}
	log.Info("kernel repaired", "objects", now.Objects, "commands", strings.Join(now.Commands, "; "))
	if r.tell != nil {
		r.tell(*now)
	}
}
