package overlay

import (
	"cmp"
	"context"
	"time"
)

// Drift is one difference between what is wanted and what the kernel has.
type Drift struct {
	Object  Object // as wanted; of an extra one as the kernel has it
	Kind    DriftKind
	Network string // its name; empty: the object is of no one network
	Command string // what an operator would type to mend it
}

// DriftKind is how an object differs.
type DriftKind string

const (
	DriftMissing   DriftKind = "missing"
	DriftExtra     DriftKind = "extra"
	DriftDifferent DriftKind = "different"
)

// Verify compares the kernel with the last State and repairs nothing. checked is how
// many objects are wanted; without a State nothing is.
func (o *Overlay) Verify(ctx context.Context) (drift []Drift, checked int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.set {
		return nil, 0, nil
	}
	o.view = nil
	if err := o.dump(ctx); err != nil {
		return nil, 0, err
	}
	wanted := o.wanted()
	put, extra := o.view.diff(wanted)
	network := o.networkOf()
	note := func(w Object, kind DriftKind) {
		drift = append(drift, Drift{w, kind, network(w), named(Command(w, kind == DriftExtra), o.fabric)})
	}
	for _, p := range put {
		kind := DriftMissing
		if o.view.get(p.Key()) != nil {
			kind = DriftDifferent
		}
		note(p, kind)
	}
	for _, e := range inOrder(o.sweep(extra)) {
		note(e, DriftExtra)
	}
	return drift, len(wanted), nil
}

// networkOf returns what names the network that an object's device is of.
func (o *Overlay) networkOf() func(Object) string {
	byVNI, byDevice := map[uint32]string{}, map[string]string{}
	for _, n := range o.merged().Networks {
		byVNI[n.VNI] = n.Name
		for _, p := range n.Ports {
			byDevice[EndpointName(p.Endpoint)] = n.Name
		}
	}
	return func(w Object) string {
		dev, ok := DeviceOf(w)
		if !ok {
			return ""
		}
		return cmp.Or(byDevice[dev.Name], byVNI[vniOf(dev.Name)])
	}
}

// Repair makes the kernel as the last State says, now: what failed a moment ago is
// tried as well. The error is as Set's.
func (o *Overlay) Repair(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.set {
		return nil
	}
	o.view = nil
	for _, t := range o.troubles {
		t.Next = time.Time{}
	}
	_, err := o.reconcile(ctx)
	if err != nil {
		o.retry()
	}
	return err
}
