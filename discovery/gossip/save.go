package gossip

import (
	"log/slog"
	"time"

	"github.com/weft-net/weft/discovery/pace"
)

const (
	saveEvery   = 500 * time.Millisecond // the table, and longer for each savedAtOnce of its bytes
	saveAtLeast = 10 * time.Second
	savedAtOnce = 64 << 10
)

// saver writes the table down when it changed. Its methods are called from Run's
// goroutine, but for run: the disk may take its time.
type saver struct {
	save    func([]byte) error // may be nil
	replica *replica
	count   *counters
	log     *slog.Logger
	blobs   chan []byte
	again   pace.Signal // a save failed

	stored    uint64    // revision that was handed over
	savedAt   time.Time // when it was
	savedSize int       // bytes of it
}

func newSaver(save func([]byte) error, r *replica, count *counters) *saver {
	return &saver{save: save, replica: r, count: count, log: r.log, blobs: make(chan []byte, 1), again: pace.NewSignal()}
}

// saveDue saves the table when it changed and the last time was long enough ago.
func (s *saver) saveDue() {
	select {
	case <-s.again:
		s.stored = 0
	default:
	}
	if time.Since(s.savedAt) >= savePause(s.savedSize) {
		s.saveNow()
	}
}

// savePause is the pause after a save of that many bytes: a large table is written
// less often, or every change anywhere would wear every host's disk. What a crash
// loses the others tell.
func savePause(size int) time.Duration {
	return min(saveEvery*time.Duration(1+size/savedAtOnce), saveAtLeast)
}

// saveNow hands the table to run if it changed. A blob that run has not begun with
// is replaced by the newer one.
func (s *saver) saveNow() {
	if s.save == nil {
		return
	}
	blob, err := s.changed()
	if err != nil {
		s.log.Error("save table", "err", err)
		return
	}
	if blob == nil {
		return
	}
	s.savedSize, s.savedAt = len(blob), time.Now()
	select {
	case <-s.blobs:
	default:
	}
	s.blobs <- blob
}

// changed returns the table's bytes, nil when they are those that were saved.
func (s *saver) changed() (blob []byte, err error) {
	s.replica.read(func() {
		if rev := s.replica.table.StoredRevision(); rev != s.stored {
			s.stored = rev
			blob, err = s.replica.table.MarshalBinary()
		}
	})
	return blob, err
}

// close hands over the last state; run ends when it is written.
func (s *saver) close() {
	s.saveNow()
	close(s.blobs)
}

// run writes until close. A disk that takes nothing is tried again and again, and said
// once.
func (s *saver) run() {
	said := false
	for blob := range s.blobs {
		err := s.save(blob)
		if err != nil {
			s.count.saveErrors.Add(1)
			s.again.Set()
		}
		if err != nil && !said {
			s.log.Warn("save table", "err", err)
		}
		said = err != nil
	}
}
