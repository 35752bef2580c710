package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/overlay"
)

// machine is the host with what is followed of it.
type machine struct {
	Host
	Sandboxes
	neighbours *neighbourWatch
}

// neighbourWatch follows the kernel's neighbour tables, which every program of the
// machine fills.
type neighbourWatch struct {
	read func() ([]overlay.NeighbourTable, error)

	mu   sync.Mutex // guards what follows
	last []overlay.NeighbourTable
	full map[string]time.Time // when a table was seen to have overflowed
}

// fullFor is how long a table that overflowed is called full: a host that lacks a
// neighbour asks for it again and again.
const fullFor = time.Minute

// look reads the tables.
func (w *neighbourWatch) look(now time.Time) error {
	tables, err := w.read()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tables {
		i := slices.IndexFunc(w.last, func(o overlay.NeighbourTable) bool { return o.Name == t.Name })
		if i >= 0 && w.last[i].Overflows < t.Overflows {
			if w.full == nil {
				w.full = map[string]time.Time{}
			}
			w.full[t.Name] = now
		}
	}
	w.last = tables
	return nil
}

// tables are what was read last. permanent entries of the tables are known to be ours.
func (w *neighbourWatch) tables(permanent int, now time.Time) (out []diagnose.Neighbours) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.last {
		n := diagnose.Neighbours{NeighbourTable: t}
		if at, ok := w.full[t.Name]; ok {
			n.Full = now.Sub(at) < fullFor
		}
		if !t.IPv6 {
			n.Permanent = permanent
		}
		out = append(out, n)
	}
	return out
}

// neighbours are the tables as they are now.
func (m *member) neighbours() []diagnose.Neighbours {
	if err := m.machine.neighbours.look(time.Now()); err != nil {
		m.log.Debug("neighbour tables not read", "err", err)
	}
	return m.machine.neighbours.tables(m.permanent(), time.Now())
}

// permanent are the entries for endpoints of other hosts.
func (m *member) permanent() (n int) {
	active := m.endpoints.Active()
	v := m.directory.View()
	for _, r := range v.Endpoints {
		if r.Host != v.Self && active[r.Network] {
			n += len(r.Addrs())
		}
	}
	return n
}

// blame names a neighbour table that is full as the cause of an error: what is sent
// to a neighbour that gets no entry is lost, as if a filter dropped it.
func (m *member) blame(err error) error {
	if err == nil {
		return nil
	}
	if c := diagnose.NeighbourTables(m.neighbours()); c.State == api.CheckFail {
		return api.Errorf(api.KindFailed, "%v: %s", err, c.Detail).WithHint("%s", c.Hint)
	}
	return err
}
