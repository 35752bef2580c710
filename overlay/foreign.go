package overlay

import (
	"fmt"
	"slices"
)

// foreign are the devices of somebody else that have names of a network's, as long
// as the network has no device of its own: then nothing of it is made. What was made
// before is kept; only the device itself is missing.
func (o *Overlay) foreign(n *Network) (taken []LinkKey) {
	for _, key := range []LinkKey{
		{Fabric, VXLANName(n.VNI)}, {Fabric, BridgeName(n.VNI)}, {Fabric, GatewayPeerName(n.VNI)}, {Host, GatewayName(n.VNI)},
	} {
		switch have, ok := o.view.get(key).(Link); {
		case !ok:
		case have.Kind == Foreign:
			taken = append(taken, key)
		default:
			return nil
		}
	}
	return taken
}

// makeable takes the networks out of s that cannot be made for a foreign device, and
// returns what is left of them: the devices in question, which the kernel refuses.
func (o *Overlay) makeable(s State) (State, []Object) {
	var refused []Object
	blocked := map[uint32]bool{}
	for _, n := range s.Networks {
		taken := o.foreign(&n)
		if taken == nil {
			continue
		}
		blocked[n.VNI] = true
		alone := s
		n.Ports, n.Remotes = nil, nil
		alone.Networks = []Network{n}
		for _, w := range objects(alone, o.facts) {
			if key, ok := w.Key().(LinkKey); ok && slices.Contains(taken, key) {
				refused = append(refused, w)
			}
		}
	}
	if len(blocked) > 0 {
		s.Networks = slices.DeleteFunc(slices.Clone(s.Networks), func(n Network) bool { return blocked[n.VNI] })
	}
	return s, refused
}

// ForeignDevice is the error of a name that a device of somebody else has. It wraps
// ErrForeign.
func ForeignDevice(key LinkKey, kind string) error {
	l := Link{Place: key.Place, Name: key.Name}
	return &Remedy{
		Err:     fmt.Errorf("%s is a %s: %w", key.Name, kind, ErrForeign),
		Command: fmt.Sprintf("%s -d link show %s # rename it or delete it, then weft goes on by itself", l.program(), key.Name),
	}
}
