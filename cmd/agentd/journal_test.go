package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/agent/config"
)

// stream is a file that JOURNAL_STREAM names, and how to read it.
func stream(t *testing.T) (f *os.File, read func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	t.Setenv("JOURNAL_STREAM", journalStream(t, f))
	return f, func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func journalStream(t *testing.T, f *os.File) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func TestLinesOfTheJournalBeginWithTheirPriority(t *testing.T) {
	for format, want := range map[string]string{
		"text": `<7>level=DEBUG msg=kernel host=h1
<6>level=INFO msg=joined host=h1
<4>level=WARN msg=retried host=h1
<3>level=ERROR msg="two\nlines" host=h1
`,
		"json": `<7>{"level":"DEBUG","msg":"kernel","host":"h1"}
<6>{"level":"INFO","msg":"joined","host":"h1"}
<4>{"level":"WARN","msg":"retried","host":"h1"}
<3>{"level":"ERROR","msg":"two\nlines","host":"h1"}
`,
	} {
		t.Run(format, func(t *testing.T) {
			f, read := stream(t)
			cfg := config.Default()
			cfg.LogFormat, cfg.LogLevel = format, slog.LevelDebug
			var level slog.LevelVar
			log := logger(cfg, &level, f).With("host", "h1")
			log.Debug("kernel")
			log.Info("joined")
			log.Warn("retried")
			log.Error("two\nlines")
			level.Set(slog.LevelError)
			log.Warn("too low")
			if got := read(); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestLogThatIsNotTheJournalsHasTimeAndNoPriority(t *testing.T) {
	f, _ := stream(t)
	other, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var level slog.LevelVar
	logger(config.Default(), &level, other).Info("joined")
	b, err := os.ReadFile(other.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b); !strings.HasPrefix(got, "time=") {
		t.Errorf("beside %s: %q", f.Name(), got)
	}
}

func TestLastWordsGoToTheJournalAsErrors(t *testing.T) {
	f, read := stream(t)
	if code := run(t.Context(), []string{"--colour", "red"}, f, f); code != exitMisuse {
		t.Errorf("exit %d", code)
	}
	for line := range strings.Lines(read()) {
		if !strings.HasPrefix(line, "<3>") {
			t.Errorf("without a priority: %q", line)
		}
	}
	if !strings.Contains(read(), "<3>hint: ") {
		t.Errorf("no hint in %q", read())
	}
}
