package overlay

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// Trouble is something that the kernel refuses: an object that it does not have as
// wanted, or that nobody wants and that does not go.
type Trouble struct {
	Err   error     // an *ObjectError; another one says why the kernel cannot be read
	Since time.Time // of the first of these failures in a row
	Tries int       // that failed, at least 1
	Next  time.Time // of the next try
}

const (
	firstRetry = time.Second
	maxBackoff = time.Minute
)

// troubles are what fails, each with a back-off of its own: the rest never waits.
type troubles map[Key]*Trouble

// unread is the key of the trouble that the kernel cannot be read.
type unread struct{}

// failed notes one more failure. A wish that changed begins anew.
func (t troubles) failed(k Key, err error, now time.Time) {
	have := t[k]
	if have == nil || !sameWish(have.Err, err) {
		have = &Trouble{Since: now}
		t[k] = have
	}
	have.Err, have.Next = err, now.Add(min(firstRetry<<min(have.Tries, 10), maxBackoff))
	have.Tries++
}

func sameWish(a, b error) bool {
	x, isObject := errors.AsType[*ObjectError](a)
	y, ok := errors.AsType[*ObjectError](b)
	return isObject == ok && (!ok || x.Object == y.Object && x.Deleting == y.Deleting)
}

// wait reports whether a change has failed and is not due yet.
func (t troubles) wait(o Object, deleting bool, now time.Time) bool {
	have := t[o.Key()]
	if have == nil || !now.Before(have.Next) {
		return false
	}
	e, ok := errors.AsType[*ObjectError](have.Err)
	return ok && e.Object == o && e.Deleting == deleting
}

// over notes that nothing has to be done about an object, and reports whether it had
// failed. What failed may have waited for just this object, so all of it is due.
func (t troubles) over(k Key) bool {
	if t[k] == nil {
		return false
	}
	delete(t, k)
	for _, other := range t {
		other.Next, other.Tries = time.Time{}, 0
	}
	return true
}

// keep forgets the failures of changes that nobody asks for any more.
func (t troubles) keep(put, extra []Object) {
	if len(t) == 0 {
		return
	}
	asked := make(map[Key]bool, len(put)+len(extra))
	for _, o := range slices.Concat(put, extra) {
		asked[o.Key()] = true
	}
	for k := range t {
		if !asked[k] {
			t.over(k)
		}
	}
}

// next is when the first of them is due; zero when there is none.
func (t troubles) next() (at time.Time) {
	for _, one := range t {
		if at.IsZero() || one.Next.Before(at) {
			at = one.Next
		}
	}
	return at
}

func (t troubles) sorted() []Trouble {
	all := make([]Trouble, 0, len(t))
	for _, one := range t {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b Trouble) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
	return all
}

func (t troubles) err() error {
	var f failures
	for _, one := range t.sorted() {
		f = append(f, one.Err)
	}
	return f.err()
}

// Troubles are what the kernel refuses now, the oldest first.
func (o *Overlay) Troubles() []Trouble {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.troubles.sorted()
}
