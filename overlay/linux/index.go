package linux

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// indexTable remembers the indexes of a namespace's devices, so that an entry costs
// no look-up. A device made again behind our back shows as an error of its
// entries, after which everything is read anew.
type indexTable struct {
	mu    sync.Mutex
	index map[string]int
}

func newIndexTable() *indexTable { return &indexTable{index: map[string]int{}} }

func (n *indexTable) reset(all []link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.index)
	for i := range all {
		n.index[all[i].name] = all[i].index
	}
}

func (n *indexTable) get(name string) (int, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, ok := n.index[name]
	return i, ok
}

func (n *indexTable) set(name string, index int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index[name] = index
}

func (n *indexTable) drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.index, name)
}

// setting is a number in the kernel beside the one that we set.
type setting struct {
	name      string
	got, want uint32
}

// deviation names the settings that differ from ours.
func deviation(settings ...setting) string {
	var b strings.Builder
	for _, s := range settings {
		if s.got == s.want {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s %d", s.name, s.got)
	}
	return b.String()
}

// absent turns the errors that say "there is no such thing" into success, for
// deletions.
func absent(err error, ok ...error) error {
	for _, e := range ok {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}
