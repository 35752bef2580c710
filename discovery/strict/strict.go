// Package strict is the border of the agent. What another member announces, what
// the pool, a file or a runtime holds becomes a value of the agent only after it
// was checked here, as strictly as a request of a user. What does not pass is
// refused by itself, noted in a Ledger, and stops nothing else.
package strict

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
)

// Border is where a value comes in.
type Border string

// The borders.
const (
	Gossip  Border = "gossip"  // what members announce
	Pool    Border = "pool"    // keys of the store
	Files   Border = "files"   // of the data directory
	Runtime Border = "runtime" // what engines answer
)

// Refused is one value that was turned away.
type Refused struct {
	Source string // who sent it or where it stands: "member db2", "key weft/nets/README"
	Why    string // one clause, without a full stop
	Hint   string // the command to type next; empty: none helps
}

// Error makes a refusal the error of whoever needs just this value.
func (r Refused) Error() string { return r.Source + ": " + r.Why }

// most is how many refusals of one border are kept. Their senders may be hostile:
// what they send must not fill the memory or the log of this host.
const most = 64

// Ledger keeps what each border refuses now. A nil Ledger keeps nothing. It is safe
// for concurrent use.
type Ledger struct {
	log  *slog.Logger
	tell func(Border, Refused) // may be nil

	mu   sync.Mutex
	kept map[Border][]Refused
	more map[Border]int // refused, but not kept
}

// NewLedger returns an empty ledger. Each new refusal is one warning in the log, and
// told to tell, which may be nil.
func NewLedger(log *slog.Logger, tell func(Border, Refused)) *Ledger {
	return &Ledger{log: log, tell: tell, kept: map[Border][]Refused{}, more: map[Border]int{}}
}

// Set says all that a border refuses now. It replaces what was said of this border
// before: what is no longer refused needs nobody's attention.
func (l *Ledger) Set(b Border, now []Refused) {
	if l == nil {
		return
	}
	now = slices.Clone(now)
	slices.SortFunc(now, compare)
	now = slices.Compact(now)
	l.mu.Lock()
	before := l.kept[b]
	l.more[b] = max(len(now)-most, 0)
	now = now[:min(len(now), most)]
	l.kept[b] = now
	l.mu.Unlock()
	for _, r := range now {
		if !slices.Contains(before, r) {
			l.warn(b, r)
		}
	}
}

// Add notes one more refusal of a border that cannot say all of them at once. It
// stays until the border's next Set, or the end of the agent.
func (l *Ledger) Add(b Border, r Refused) {
	if l == nil {
		return
	}
	l.mu.Lock()
	if slices.Contains(l.kept[b], r) {
		l.mu.Unlock()
		return
	}
	if len(l.kept[b]) == most {
		l.more[b]++
		l.mu.Unlock()
		return
	}
	l.kept[b] = append(slices.Clone(l.kept[b]), r)
	l.mu.Unlock()
	l.warn(b, r)
}

// All returns what is refused now, by border and source, and how many more are not
// kept.
func (l *Ledger) All() (all []Refused, more int) {
	if l == nil {
		return nil, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range []Border{Files, Gossip, Pool, Runtime} {
		kept := slices.Clone(l.kept[b])
		slices.SortFunc(kept, compare)
		all = append(all, kept...)
		more += l.more[b]
	}
	return all, more
}

func (l *Ledger) warn(b Border, r Refused) {
	l.log.Warn("refused", "border", string(b), "source", r.Source, "why", r.Why, "hint", r.Hint)
	if l.tell != nil {
		l.tell(b, r)
	}
}

func compare(a, b Refused) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Why, b.Why), cmp.Compare(a.Hint, b.Hint))
}
