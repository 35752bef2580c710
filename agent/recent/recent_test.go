package recent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLinesAreKeptAsTheyAreLogged(t *testing.T) {
	var out bytes.Buffer
	log, lines := Keep(slog.New(slog.NewTextHandler(&out, nil)))
	log.With("member", "h2").WithGroup("g").Warn("gone", "why", "a\nb")
	log.Debug("not shown")
	if got := string(lines.Text()); got != out.String() || !strings.Contains(got, `level=WARN msg=gone member=h2 g.why="a\nb"`) {
		t.Errorf("kept %q, logged %q", got, out.String())
	}
}

func TestTheOldestLinesGo(t *testing.T) {
	var l Lines
	line := bytes.Repeat([]byte("x"), 1<<10)
	for n := range 1000 {
		line[0] = byte('a' + n%26)
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	got := l.Text()
	if len(got) > most || len(got) < most-len(line) || got[len(got)-len(line)] != byte('a'+999%26) {
		t.Errorf("%d bytes, the last line begins %q", len(got), got[len(got)-len(line)])
	}
	if _, _ = l.Write(make([]byte, 2*most)); len(l.Text()) != 2*most {
		t.Error("a long line is lost")
	}
}
