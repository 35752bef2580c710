package overlay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// program is one round of changes to the kernel.
type program struct {
	*Overlay
	ctx      context.Context
	patient  bool // leaves alone what failed a moment ago
	failures failures
	broken   map[LinkKey]bool // devices that could not be made
	untabled map[Place]bool   // likewise, tables of the packet filter
	changed  int
	again    bool // another round has something to do
	stale    bool // what we know of the kernel no longer holds
}

// run makes the changes. Entries that speak for an address which is local now
// go first; then everything is added before anything is deleted, so that a
// packet finds the new way before it loses the old.
func (p *program) run(put, extra []Object) {
	local := superseded(p.merged())
	wrong, rest := split(extra, func(e Object) bool { return local[e.Key()] })
	p.delete(wrong)
	p.put(put)
	if p.state.Complete {
		p.delete(inOrder(p.sweep(rest)))
	}
}

// put makes the objects rank by rank. What stands on a device that failed is
// left for the next round: one error says it all.
func (p *program) put(objects []Object) {
	for _, group := range byRank(objects) {
		group = slices.DeleteFunc(group, func(o Object) bool { return p.stranded(o) || p.waits(o, false) })
		if len(group) == 0 {
			continue
		}
		p.trace(group, false)
		failed := p.collect(group, false, p.kernel.Put(p.ctx, group...))
		for _, o := range group {
			if failed[o.Key()] != nil {
				p.breakDevice(o)
				continue
			}
			p.changed++
			p.count.changed(o, false, p.repairs.note(o, false, p.fabric, time.Now()))
			p.note(o)
		}
	}
}

func (p *program) stranded(o Object) bool {
	if e, ok := o.(NFElement); ok && p.untabled[e.Place] {
		return true
	}
	dev, ok := DeviceOf(o)
	return ok && p.broken[dev]
}

// waits reports whether a change has failed and is not due. A device or a table that
// has to wait and is not there has everything in it wait.
func (p *program) waits(o Object, deleting bool) bool {
	if !p.patient || !p.troubles.wait(o, deleting, time.Now()) && !p.waitsForPeer(o, deleting) {
		return false
	}
	if !deleting && p.view.get(o.Key()) == nil {
		p.breakDevice(o)
	}
	return true
}

// waitsForPeer: the bridge's end of a gateway port is made with the other one.
func (p *program) waitsForPeer(o Object, deleting bool) bool {
	l, ok := o.(Link)
	return ok && !deleting && l.Kind == GatewayPeer && p.troubles[LinkKey{Host, l.Peer}] != nil
}

// breakDevice notes that a device or a table is not there for what belongs into it.
func (p *program) breakDevice(o Object) {
	switch o := o.(type) {
	case Link:
		if p.broken == nil {
			p.broken = map[LinkKey]bool{}
		}
		p.broken[o.device()] = true
	case NFTable:
		if p.untabled == nil {
			p.untabled = map[Place]bool{}
		}
		p.untabled[o.Place] = true
	}
}

// note records a success. A link that was changed may have lost what stood on
// it.
func (p *program) note(o Object) {
	if _, link := o.(Link); link && p.view.get(o.Key()) != nil {
		p.again = true
	}
	p.again = p.troubles.over(o.Key()) || p.again
	p.moves.put(p.view.get(o.Key()), o, p.network)
	p.view.set(o)
}

// delete removes the objects, those of the highest rank first. A link takes
// along what stands on it, a primary address its secondaries.
func (p *program) delete(objects []Object) {
	groups := byRank(objects)
	slices.Reverse(groups)
	for _, group := range groups {
		group = slices.DeleteFunc(group, func(o Object) bool { return p.waits(o, true) })
		p.trace(group, true)
		failed := p.collect(group, true, p.kernel.Delete(p.ctx, group...))
		for _, o := range group {
			if failed[o.Key()] != nil {
				continue
			}
			p.changed++
			p.count.changed(o, true, p.repairs.note(o, true, p.fabric, time.Now()))
			p.again = p.troubles.over(o.Key()) || p.again
			p.moves.deleted(o, p.network)
			p.view.drop(o)
			switch o.(type) {
			case Link, Addr:
				p.again = true
			}
		}
	}
}

// collect notes what of a group failed. An error that names no object may be about
// any of them. What we know of the kernel no longer holds; a device that failed may
// be there all the same, and then the next round puts what stands on it.
func (p *program) collect(group []Object, deleting bool, err error) map[Key]*ObjectError {
	if err == nil {
		return nil
	}
	failed, rest := objectErrors(err)
	for _, o := range group {
		if rest != nil && failed[o.Key()] == nil {
			failed[o.Key()] = &ObjectError{Object: o, Deleting: deleting, Err: rest}
		}
	}
	now := time.Now()
	for key, e := range failed {
		e.Fabric = p.fabric
		if r, ok := errors.AsType[*Remedy](e.Err); ok {
			r.Command = named(r.Command, p.fabric)
		}
		p.failures = append(p.failures, e)
		l, link := e.Object.(Link)
		_, table := e.Object.(NFTable)
		p.again = p.again || link || table
		if p.ctx.Err() == nil && (l.Kind != GatewayPeer || failed[LinkKey{Host, l.Peer}] == nil) {
			p.troubles.failed(key, e, now)
		}
	}
	slices.SortFunc(p.failures, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	p.stale = true
	return failed
}

// traced is how many commands of one group are logged; a thousand entries say
// no more than the first few.
const traced = 16

func (p *program) trace(group []Object, deleting bool) {
	if !p.log.Enabled(p.ctx, slog.LevelDebug) {
		return
	}
	for _, o := range group[:min(len(group), traced)] {
		p.log.Debug("kernel command", "command", named(Command(o, deleting), p.fabric))
	}
	if more := len(group) - traced; more > 0 {
		p.log.Debug("kernel commands of the same kind", "more", more)
	}
}

// byRank groups objects by ascending rank and keeps their order in each.
func byRank(objects []Object) [][]Object {
	var groups [][]Object
	ranks := [RankEntry + 1][]Object{}
	for _, o := range objects {
		ranks[o.Rank()] = append(ranks[o.Rank()], o)
	}
	for _, group := range ranks {
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

// inOrder sorts objects by rank and command, for logs and people.
func inOrder(objects []Object) []Object {
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.String(), b.String()))
	})
	return objects
}

func split(objects []Object, first func(Object) bool) (a, b []Object) {
	for _, o := range objects {
		if first(o) {
			a = append(a, o)
		} else {
			b = append(b, o)
		}
	}
	return a, b
}
