package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

// disks are the open database files. Copies of the journal are kept in view.db and in
// the run directory, so that a leases.db that is damaged or lost takes no endpoint's
// name, sandbox or ports along. The run directory is on no disk, and lasts as long as
// the sandboxes do: until the machine is started anew.
type disks struct {
	dir     *datadir.Dir
	run     string // the run directory
	leases  *ipam.Disk
	all     []*boltfile.DB
	journal *journal.Journal // nil: not read yet
	view    datadir.View

	copied uint64 // changes of the journal that are in the copy, and one more
	next   time.Time
	failed bool
}

const (
	copyEvery  = time.Second
	copyAtOnce = 64 << 10 // bytes; a larger journal is copied less often
	copySeldom = 30 * time.Second
)

// copy copies the journal when it has changed and the last copy is old enough. A
// failure is logged once. Its caller is one goroutine.
func (d *disks) copy(now time.Time, log *slog.Logger) {
	changes := d.journal.Changes() + 1
	if changes == d.copied || now.Before(d.next) {
		return
	}
	raw, err := d.journal.Backup()
	if err == nil {
		err = errors.Join(d.view.Save(datadir.ViewOwn, raw), datadir.ReplaceFile(journalCopy(d.run), raw, 0o600))
	}
	d.next = now.Add(min(copyEvery*time.Duration(1+len(raw)/copyAtOnce), copySeldom))
	if err == nil {
		d.copied, d.failed = changes, false
		return
	}
	if !d.failed {
		log.Warn("the journal is not copied", "err", err)
	}
	d.failed = true
}

// journalCopy is the file of a run directory with the copy of the journal.
func journalCopy(runDir string) string { return filepath.Join(runDir, "journal.json") }

// copies reads what earlier starts copied: of two entries, the later one. It calls refuse
// for a copy that is not whole.
func (d *disks) copies(refuse func(source string, why error)) map[discovery.EndpointID]journal.Local {
	out, err := journal.ReadBackup(d.view.Load(datadir.ViewOwn))
	if err != nil {
		refuse(d.dir.File(datadir.ViewDB), err)
	}
	raw, err := os.ReadFile(journalCopy(d.run))
	if errors.Is(err, os.ErrNotExist) {
		return out
	}
	var more map[discovery.EndpointID]journal.Local
	if err == nil {
		more, err = journal.ReadBackup(raw)
	}
	if err != nil {
		refuse(journalCopy(d.run), err)
	}
	for id, l := range more {
		if have, there := out[id]; !there || l.Rev > have.Rev {
			out[id] = l
		}
	}
	return out
}

// problem is why nothing can be written; nil: it can. What is attached goes on, and
// nothing is handed out that the next start would not know of.
func (d *disks) problem() error {
	if why := d.dir.Writable(); why != nil {
		return why
	}
	if why := d.leases.Failing(); why != nil {
		return why
	}
	return nil
}

// thawed reports whether a file could not be written when it was opened, and now can.
func (d *disks) thawed() bool {
	frozen := slices.ContainsFunc(d.all, func(db *boltfile.DB) bool { return db.ReadOnly != nil })
	return frozen && d.dir.Writable() == nil
}

// close copies the journal once more and closes the files.
func (d *disks) close(log *slog.Logger) {
	if d.journal != nil {
		d.next = time.Time{}
		d.copy(time.Now(), log)
	}
	for _, db := range d.all {
		_ = db.Close()
	}
}

// isMissing reports whether a file is not there, or empty.
func isMissing(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0
}
