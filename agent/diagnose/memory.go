package diagnose

import (
	"fmt"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// Memory remembers since when each check is in the state that it is in. Its zero value
// has seen none.
type Memory struct {
	mu   sync.Mutex
	seen map[string]sight
}

type sight struct {
	state string
	at    time.Time
}

// Note gives those that are not ok their Since, unless they know it themselves.
func (m *Memory) Note(checks []api.Check, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]sight, len(checks))
	for i := range checks {
		c := &checks[i]
		key := c.Name
		for n := 2; next[key].state != ""; n++ { // several lines may have one name
			key = fmt.Sprint(c.Name, n)
		}
		s, ok := m.seen[key]
		if !ok || s.state != c.State {
			s = sight{c.State, now}
		}
		next[key] = s
		if c.State != api.CheckOK && c.Since.IsZero() {
			c.Since = s.at
		}
	}
	m.seen = next
}
