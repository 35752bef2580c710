package gossip

import "time"

// saveDue hands the table to the saver when it changed and the last time was
// long enough ago.
func (g *Gossip) saveDue() {
	select {
	case <-g.retry:
		g.mu.Lock()
		g.stored = 0
		g.mu.Unlock()
	default:
	}
	if time.Since(g.savedAt) >= savePause(g.savedSize) {
		g.saveNow()
	}
}

// savePause is the pause after a save of that many bytes: a large table is written
// less often, or every change anywhere would wear every host's disk. What a crash
// loses the others tell.
func savePause(size int) time.Duration {
	return min(saveEvery*time.Duration(1+size/savedAtOnce), saveAtLeast)
}

// saveNow hands the table to the saver if it changed. A blob that the saver
// has not begun with is replaced by the newer one. Only Run's goroutine calls
// it.
func (g *Gossip) saveNow() {
	if g.cfg.Save == nil {
		return
	}
	g.mu.Lock()
	r := g.table.StoredRevision()
	if r == g.stored {
		g.mu.Unlock()
		return
	}
	blob, err := g.table.MarshalBinary()
	g.stored = r
	g.mu.Unlock()
	if err != nil {
		g.log.Error("save table", "err", err)
		return
	}
	g.savedSize = len(blob)
	g.savedAt = time.Now()
	select {
	case <-g.saves:
	default:
	}
	g.saves <- blob
}

func (g *Gossip) saveLoop() {
	for blob := range g.saves {
		if err := g.cfg.Save(blob); err != nil {
			g.count.saveErrors.Add(1)
			g.log.Warn("save table", "err", err)
			poke(g.retry)
		}
	}
}
