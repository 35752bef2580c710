package strict

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLedgerKeepsWhatIsRefusedNow(t *testing.T) {
	var log bytes.Buffer
	l := NewLedger(slog.New(slog.NewTextHandler(&log, nil)), nil)
	key := Refused{Source: "key weft/nets/README", Why: "not ours"}
	file := Refused{Source: "file view.db", Why: "torn"}
	for range 2 { // said again is not logged again
		l.Set(Pool, []Refused{key})
		l.Add(Files, file)
	}
	if all, more := l.All(); len(all) != 2 || all[0] != file || all[1] != key || more != 0 {
		t.Errorf("got %v and %d more, want the file, then the key", all, more)
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 2 {
		t.Errorf("%d warnings, want one of each:\n%s", got, log.String())
	}
	l.Set(Pool, nil)
	if all, _ := l.All(); len(all) != 1 || all[0] != file {
		t.Errorf("got %v, want the file only: the key is gone", all)
	}
}

// A hostile member fills neither the memory nor the log.
func TestLedgerIsBounded(t *testing.T) {
	var log bytes.Buffer
	l := NewLedger(slog.New(slog.NewTextHandler(&log, nil)), nil)
	var many []Refused
	for i := range 1000 {
		r := Refused{Source: fmt.Sprintf("member %04d", i)}
		many = append(many, r)
		l.Add(Runtime, r)
	}
	l.Set(Gossip, many)
	if all, more := l.All(); len(all) != 2*most || more != 2*(1000-most) {
		t.Errorf("kept %d and %d more, want %d and %d", len(all), more, 2*most, 2*(1000-most))
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 2*most {
		t.Errorf("%d warnings, want %d", got, 2*most)
	}
}

func TestANilLedgerKeepsNothing(t *testing.T) {
	var l *Ledger
	l.Set(Pool, []Refused{{Source: "key"}})
	l.Add(Pool, Refused{Source: "key"})
	if all, more := l.All(); len(all) != 0 || more != 0 {
		t.Errorf("got %v and %d more", all, more)
	}
}
