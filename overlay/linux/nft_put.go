package linux

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

func (s *nftSpace) put(ctx context.Context, objects []overlay.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, elements := s.mine(objects)
	added := publications(elements)
	s.supplanted = nil
	var errs []error
	for _, t := range tables {
		rest, err := s.install(t, elements)
		if err != nil && len(elements) > 0 { // one of them may be at fault
			rest = elements
			_, err = s.install(t, nil)
		}
		if err != nil {
			errs = append(errs, &overlay.ObjectError{Object: t, Err: err})
			continue
		}
		elements = rest
	}
	errs = append(errs, s.change(ctx, elements, adding))
	return errors.Join(append(errs, s.forget(added, publications(s.supplanted)))...)
}

func (s *nftSpace) delete(ctx context.Context, objects []overlay.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, elements := s.mine(objects)
	errs := []error{s.change(ctx, elements, deleting), s.forget(nil, publications(elements))}
	for _, t := range tables {
		// Adding it first makes it an absent table's deletion too.
		s.conn.AddTable(&s.table)
		s.conn.DelTable(&s.table)
		if err := s.flush(); err != nil {
			errs = append(errs, &overlay.ObjectError{Object: t, Deleting: true, Err: err})
		}
	}
	return errors.Join(errs...)
}

// mine are the objects of this namespace.
func (s *nftSpace) mine(objects []overlay.Object) (tables []overlay.NFTable, elements []overlay.NFElement) {
	for _, o := range objects {
		switch o := o.(type) {
		case overlay.NFTable:
			if o.Place == s.place {
				tables = append(tables, o)
			}
		case overlay.NFElement:
			if o.Place == s.place {
				elements = append(elements, o)
			}
		}
	}
	return tables, elements
}

// install replaces the table in one transaction: every packet meets either the
// old rules or the new ones. The elements that it had come along, where their
// set stays what it was, and those of more that fit; it returns the others.
func (s *nftSpace) install(t overlay.NFTable, more []overlay.NFElement) (rest []overlay.NFElement, err error) {
	wanted, err := parseRules(t.Rules)
	if err != nil {
		return more, err
	}
	had, err := s.dump()
	if err != nil {
		return more, err
	}
	bySet := map[string][]overlay.NFElement{}
	newer := make(map[overlay.Key]bool, len(more))
	for _, e := range more {
		newer[e.Key()] = true
	}
	for _, e := range had.elements {
		if wanted.fits(e) && !newer[e.Key()] {
			bySet[e.Set] = append(bySet[e.Set], e)
		}
	}
	for _, e := range more {
		if wanted.fits(e) {
			bySet[e.Set] = append(bySet[e.Set], e)
		} else {
			rest = append(rest, e)
		}
	}
	s.conn.AddTable(&s.table)
	s.conn.DelTable(&s.table)
	s.conn.AddTable(&s.table)
	if err := errors.Join(s.addSets(wanted, bySet), s.addChains(wanted)); err != nil {
		return more, errors.Join(err, s.redial())
	}
	return rest, s.flush()
}

// fits reports whether an element belongs into one of the sets.
func (r ruleset) fits(e overlay.NFElement) bool {
	return slices.ContainsFunc(r.sets, func(s ruleSet) bool { return s.name == e.Set && s.typ == typeOf(e) && s.data == dataOf(e) })
}

func (s *nftSpace) addSets(r ruleset, elements map[string][]overlay.NFElement) error {
	for i, set := range r.sets {
		key, err := keyType(set.typ)
		if err != nil {
			return err
		}
		def := &nftables.Set{Table: &s.table, ID: uint32(i + 1), Name: set.name, KeyType: key, Interval: set.interval}
		if set.data != "" {
			if def.DataType, err = keyType(set.data); err != nil {
				return err
			}
			def.IsMap = true
		}
		if set.typ == "ifname" {
			def.KeyByteOrder = binaryutil.NativeEndian // nft(8) prints a name backwards otherwise
		}
		if err := s.conn.AddSet(def, nil); err != nil {
			return err
		}
		for batch := range slices.Chunk(elements[set.name], elementsPerBatch) {
			if err := s.conn.SetAddElements(def, encodeAll(batch, set.interval)); err != nil {
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
func (s *nftSpace) addChains(r ruleset) error {
	chains := make([]*nftables.Chain, len(r.chains))
	for i, c := range r.chains {
		chains[i] = &nftables.Chain{Name: c.name, Table: &s.table}
		if c.base != "" {
			if err := parseBase(c.base, chains[i]); err != nil {
				return err
			}
		}
		s.conn.AddChain(chains[i])
	}
	for i, c := range r.chains {
		for _, rule := range c.rules {
			exprs, err := compile(rule)
			if err != nil {
				return err
			}
			s.conn.AddRule(&nftables.Rule{Table: &s.table, Chain: chains[i], Exprs: exprs})
		}
	}
	return nil
}

// direction says what happens to elements.
type direction bool

const (
	adding   direction = true
	deleting direction = false
)

// change adds or deletes elements, set by set in batches.
func (s *nftSpace) change(ctx context.Context, elements []overlay.NFElement, d direction) error {
	if len(elements) == 0 {
		return nil
	}
	sets, err := s.sets()
	if err != nil {
		return fmt.Errorf("list nftables sets in the %s namespace: %w", s.place, err)
	}
	bySet, errs := sorted(elements, sets, d)
	for _, set := range sets {
		for batch := range slices.Chunk(bySet[set.Name], elementsPerBatch) {
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
			errs = append(errs, s.changeBatch(set, batch, d)...)
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

// sets are those of the table; none if there is no table.
func (s *nftSpace) sets() (map[string]*nftables.Set, error) {
	found, _, err := s.find()
	if err != nil || !found {
		return nil, err
	}
	list, err := s.conn.GetSets(&s.table)
	if err != nil {
		return nil, errors.Join(err, s.redial())
	}
	sets := make(map[string]*nftables.Set, len(list))
	for _, set := range list {
		sets[set.Name] = set
	}
	return sets, nil
}

// changeBatch is one transaction. If it fails, its halves show which elements
// are at fault.
func (s *nftSpace) changeBatch(set *nftables.Set, batch []overlay.NFElement, d direction) []error {
	err := s.send(set, encodeAll(batch, set.Interval), d)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return d.allFailed(batch, err)
	case len(batch) > 1:
		half := len(batch) / 2
		return append(s.changeBatch(set, batch[:half], d), s.changeBatch(set, batch[half:], d)...)
	case d == deleting && errors.Is(err, fs.ErrNotExist):
		return nil
	case d == adding && (set.Interval || set.IsMap):
		err = s.supplant(set, batch[0])
	}
	if err == nil {
		return nil
	}
	return d.allFailed(batch, err)
}

func (s *nftSpace) send(set *nftables.Set, elements []nftables.SetElement, d direction) error {
	change := s.conn.SetAddElements
	if d == deleting {
		change = s.conn.SetDeleteElements
	}
	if err := change(set, elements); err != nil {
		return errors.Join(err, s.redial())
	}
	return s.flush()
}

// supplant adds an interval, or what a map holds under a key, and deletes what
// is in its way, which nobody wants any more: a network that grew or shrank, or
// a port that leads elsewhere, would otherwise wait for its own past.
func (s *nftSpace) supplant(set *nftables.Set, e overlay.NFElement) error {
	raw, err := s.conn.GetSetElements(set)
	if err != nil {
		return errors.Join(err, s.redial())
	}
	have, _ := decodeElements(s.place, set, raw)
	have = slices.DeleteFunc(have, func(h overlay.NFElement) bool {
		return set.Interval && !h.Addr.Overlaps(e.Addr) || set.IsMap && h.Key() != e.Key()
	})
	if len(have) == 0 {
		return unix.EEXIST
	}
	if err := s.conn.SetDeleteElements(set, encodeAll(have, set.Interval)); err != nil {
		return errors.Join(err, s.redial())
	}
	s.supplanted = append(s.supplanted, have...)
	return s.send(set, encodeElement(e, set.Interval), adding)
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
