package nft

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// elementsPerBatch is how many elements share a message and, unless they come
// with their table, a transaction. The attribute that holds them counts its
// bytes in 16 bits, and an element has at most 64.
const elementsPerBatch = 500

func (t *table) put(ctx context.Context, objects []overlay.Object) error {
	tables, elements := t.mine(objects)
	plans := make([]*plan, len(tables))
	var errs []error
	for i, o := range tables {
		var err error
		// Before the lock: whoever puts elements meanwhile does not wait for nft(8).
		if plans[i], err = t.plan(ctx, o); err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Err: err})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	added := publications(elements)
	t.replaced = nil
	for i, o := range tables {
		if plans[i] == nil {
			continue
		}
		rest, err := t.install(plans[i], elements)
		if err != nil && len(elements) > 0 { // one of them may be at fault
			rest = elements
			_, err = t.install(plans[i], nil)
		}
		if err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Err: err})
			continue
		}
		elements = rest
	}
	errs = append(errs, t.change(ctx, elements, adding))
	return errors.Join(append(errs, t.tell(added, publications(t.replaced)))...)
}

// plan is what the kernel makes of a table's rules, known from before or asked.
func (t *table) plan(ctx context.Context, of overlay.NFTable) (*plan, error) {
	t.mu.Lock()
	made := t.made
	t.mu.Unlock()
	if made == nil || made.text != of.Rules {
		return translate(ctx, of, t.def)
	}
	t.report(ctx, made)
	return made, nil
}

func (t *table) delete(ctx context.Context, objects []overlay.Object) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tables, elements := t.mine(objects)
	errs := []error{t.change(ctx, elements, deleting), t.tell(nil, publications(elements))}
	for _, o := range tables {
		// Adding it first makes it an absent table's deletion too.
		t.conn.AddTable(&t.def)
		t.conn.DelTable(&t.def)
		if err := t.flush(); err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Deleting: true, Err: err})
		}
	}
	return errors.Join(errs...)
}

// tell says which ports came and went.
func (t *table) tell(came, gone []overlay.NFElement) error {
	if t.moved == nil || len(came)+len(gone) == 0 {
		return nil
	}
	return t.moved(came, gone)
}

// publications are the elements that publish a port.
func publications(elements []overlay.NFElement) (out []overlay.NFElement) {
	for _, e := range elements {
		if e.ToAddr.IsValid() {
			out = append(out, e)
		}
	}
	return out
}

// mine are the objects of this namespace.
func (t *table) mine(objects []overlay.Object) (tables []overlay.NFTable, elements []overlay.NFElement) {
	for _, o := range objects {
		switch o := o.(type) {
		case overlay.NFTable:
			if o.Place == t.place {
				tables = append(tables, o)
			}
		case overlay.NFElement:
			if o.Place == t.place {
				elements = append(elements, o)
			}
		}
	}
	return tables, elements
}

// install makes the table as planned, unless it is. Elements that it had come
// along, where their set stays what it was, and those of more that fit; it
// returns the others.
func (t *table) install(p *plan, more []overlay.NFElement) (rest []overlay.NFElement, err error) {
	had, err := t.dump()
	if err != nil {
		return more, err
	}
	if had.found && len(p.differs(had.content)) == 0 {
		t.made = p
		return more, nil
	}
	newer := make(map[overlay.Key]bool, len(more))
	for _, e := range more {
		newer[e.Key()] = true
	}
	var along []overlay.NFElement
	for _, e := range had.elements {
		if p.fits(e) && !newer[e.Key()] {
			along = append(along, e)
		}
	}
	for _, e := range more {
		if p.fits(e) {
			along = append(along, e)
		} else {
			rest = append(rest, e)
		}
	}
	if err := t.replace(p, along); err != nil {
		return more, err
	}
	t.made = p
	return rest, nil
}

// replace replaces the table in one transaction: every packet meets either the
// old rules or the new ones, with all their elements.
func (t *table) replace(p *plan, elements []overlay.NFElement) error {
	t.conn.AddTable(&t.def)
	t.conn.DelTable(&t.def)
	t.conn.AddTable(&t.def)
	if err := t.addSets(p, elements); err != nil {
		return errors.Join(err, t.redial())
	}
	t.addChains(p)
	return t.flush()
}

func (t *table) addSets(p *plan, elements []overlay.NFElement) error {
	bySet := map[string][]overlay.NFElement{}
	for _, e := range elements {
		bySet[e.Set] = append(bySet[e.Set], e)
	}
	for i, s := range p.content.sets {
		def := s.def
		def.Table, def.ID = &t.def, uint32(i+1)
		if def.KeyType.Name == "ifname" {
			def.KeyByteOrder = binaryutil.NativeEndian // nft(8) prints a name backwards otherwise
		}
		if err := t.conn.AddSet(&def, nil); err != nil {
			return err
		}
		for batch := range slices.Chunk(bySet[def.Name], elementsPerBatch) {
			if err := t.conn.SetAddElements(&def, encodeAll(batch, def.Interval)); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeAll(elements []overlay.NFElement, interval bool) []nftables.SetElement {
	all := make([]nftables.SetElement, 0, 2*len(elements))
	for _, e := range elements {
		all = append(all, encodeElement(e, interval)...)
	}
	return all
}

// addChains adds all chains before the first rule that jumps to one.
func (t *table) addChains(p *plan) {
	for _, c := range p.content.chains {
		def := c.def
		def.Table = &t.def
		t.conn.AddChain(&def)
	}
	for _, c := range p.content.chains {
		for _, r := range p.sources[c.def.Name] {
			t.conn.AddRule(&nftables.Rule{Table: &t.def, Chain: &nftables.Chain{Name: c.def.Name}, Exprs: r.Exprs})
		}
	}
}

// direction says what happens to elements.
type direction bool

const (
	adding   direction = true
	deleting direction = false
)

// change adds or deletes elements, set by set in batches.
func (t *table) change(ctx context.Context, elements []overlay.NFElement, d direction) error {
	if len(elements) == 0 {
		return nil
	}
	sets, err := t.sets()
	if err != nil {
		return fmt.Errorf("list nftables sets in the %s namespace: %w", t.place, err)
	}
	bySet, errs := sorted(elements, sets, d)
	for _, set := range sets {
		for batch := range slices.Chunk(bySet[set.Name], elementsPerBatch) {
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
			errs = append(errs, t.changeBatch(set, batch, d)...)
		}
	}
	return errors.Join(errs...)
}

// sorted are the elements by set, and the errors of those that no set can hold.
func sorted(elements []overlay.NFElement, sets map[string]*nftables.Set, d direction) (bySet map[string][]overlay.NFElement, errs []error) {
	bySet = map[string][]overlay.NFElement{}
	for _, e := range elements {
		set := sets[e.Set]
		switch {
		case set == nil && d == deleting: // it went with its table
		case set == nil:
			errs = append(errs, d.failed(e, fs.ErrNotExist))
		case set.KeyType.Name != typeOf(e) || set.DataType.Name != dataOf(e):
			errs = append(errs, d.failed(e, misfit(e, set.KeyType.Name)))
		default:
			bySet[e.Set] = append(bySet[e.Set], e)
		}
	}
	return bySet, errs
}

// changeBatch is one transaction. If it fails, its halves show which elements
// are at fault.
func (t *table) changeBatch(set *nftables.Set, batch []overlay.NFElement, d direction) []error {
	err := t.send(set, encodeAll(batch, set.Interval), d)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return d.allFailed(batch, err)
	case len(batch) > 1:
		half := len(batch) / 2
		return append(t.changeBatch(set, batch[:half], d), t.changeBatch(set, batch[half:], d)...)
	case d == deleting && errors.Is(err, fs.ErrNotExist):
		return nil
	case d == adding && (set.Interval || set.IsMap):
		err = t.replaceConflicting(set, batch[0])
	}
	if err == nil {
		return nil
	}
	return d.allFailed(batch, err)
}

func (t *table) send(set *nftables.Set, elements []nftables.SetElement, d direction) error {
	change := t.conn.SetAddElements
	if d == deleting {
		change = t.conn.SetDeleteElements
	}
	if err := change(set, elements); err != nil {
		return errors.Join(err, t.redial())
	}
	return t.flush()
}

// replaceConflicting adds an interval, or what a map holds under a key, and deletes
// the elements that are in its way. Without it a network that grew or shrank, or a
// port that leads elsewhere, would wait for its own past.
func (t *table) replaceConflicting(set *nftables.Set, e overlay.NFElement) error {
	raw, err := t.conn.GetSetElements(set)
	if err != nil {
		return errors.Join(err, t.redial())
	}
	have, _ := decodeElements(t.place, set, raw)
	have = slices.DeleteFunc(have, func(h overlay.NFElement) bool {
		return set.Interval && !h.Addr.Overlaps(e.Addr) || set.IsMap && h.Key() != e.Key()
	})
	if len(have) == 0 {
		return unix.EEXIST
	}
	if err := t.conn.SetDeleteElements(set, encodeAll(have, set.Interval)); err != nil {
		return errors.Join(err, t.redial())
	}
	t.replaced = append(t.replaced, have...)
	return t.send(set, encodeElement(e, set.Interval), adding)
}

func (d direction) failed(e overlay.NFElement, err error) error {
	return &overlay.ObjectError{Object: e, Deleting: d == deleting, Err: err}
}

func (d direction) allFailed(batch []overlay.NFElement, err error) []error {
	errs := make([]error, len(batch))
	for i, e := range batch {
		errs[i] = d.failed(e, err)
	}
	return errs
}
