package agent

import (
	"time"

	"github.com/weft-net/weft/agent/diagnose"
)

// startFacts say how far this start of the agent has come: the pool was read, then
// every member that is alive, then a pass was made of both.
func startFacts(m *member, now time.Time) diagnose.StartFacts {
	v := m.directory.View()
	_, read := m.networks.ByVNI()
	m.loop.mu.Lock()
	defer m.loop.mu.Unlock()
	return diagnose.StartFacts{Began: m.loop.began, Now: now, CaughtUp: m.loop.caughtUp,
		StoreUnread: !read || !m.loop.complete && v.Complete, MembersUnread: !v.Complete, Store: storeName(m.pool.Address)}
}
