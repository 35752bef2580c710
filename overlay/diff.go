package overlay

// view is what the kernel has, as far as we know: a dump, kept up to date with
// what has been put and deleted since. A nil view knows nothing.
type view struct {
	held map[Key]*holding
	pass int
}

type holding struct {
	object Object // nil: absent
	pass   int    // the last diff that wanted it
}

func newView(dump []Object) *view {
	v := &view{held: make(map[Key]*holding, len(dump)+len(dump)/8)}
	slab := make([]holding, len(dump))
	for i, o := range dump {
		slab[i].object = o
		v.held[o.Key()] = &slab[i]
	}
	return v
}

// diff is the one comparison for all kinds of objects. It returns what to put,
// in the order of wanted, and what the kernel has beyond it, in no order. Of
// two wanted objects with one key the first counts.
func (v *view) diff(wanted []Object) (put, extra []Object) {
	v.pass++
	for _, o := range wanted {
		key := o.Key()
		h := v.held[key]
		switch {
		case h == nil:
			v.held[key] = &holding{pass: v.pass}
			put = append(put, o)
		case h.pass == v.pass:
		default:
			h.pass = v.pass
			if h.object != o {
				put = append(put, o)
			}
		}
	}
	for key, h := range v.held {
		if h.pass == v.pass {
			continue
		}
		if h.object == nil {
			delete(v.held, key)
			continue
		}
		extra = append(extra, h.object)
	}
	return put, extra
}

// get returns what the kernel has under a key, or nil.
func (v *view) get(k Key) Object {
	if v == nil {
		return nil
	}
	if h := v.held[k]; h != nil {
		return h.object
	}
	return nil
}

func (v *view) set(o Object) {
	if v == nil {
		return
	}
	if h := v.held[o.Key()]; h != nil {
		h.object = o
		return
	}
	v.held[o.Key()] = &holding{object: o}
}

func (v *view) drop(o Object) {
	if v != nil {
		delete(v.held, o.Key())
	}
}

// dropDevice forgets what went with a device.
func (v *view) dropDevice(dev LinkKey) {
	if v == nil {
		return
	}
	for key, h := range v.held {
		if d, ok := DeviceOf(h.object); ok && d == dev {
			delete(v.held, key)
		}
	}
}

// DeviceOf returns the device without which an object cannot be, and false if it
// needs none. A link is its own.
func DeviceOf(o Object) (LinkKey, bool) {
	d, ok := o.(interface{ device() LinkKey })
	if !ok {
		return LinkKey{}, false
	}
	k := d.device()
	return k, k.Name != ""
}

// sweepable reports whether an object that nobody wants is ours to delete.
// Settings and bridge ports go with their device; an endpoint's link goes with
// its sandbox or by Detach; the fabric stays.
func sweepable(o Object) bool {
	switch o := o.(type) {
	case Sysctl, BridgePort, Mount:
		return false
	case Link:
		return OursByAlias(o.Alias) && o.Kind != EndpointPeer && o.Kind != GatewayPeer
	}
	return true
}
