package history

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/event"
)

// TestMain lets this program be a writer that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("WEFT_TEST_HISTORY")
	if dir == "" {
		os.Exit(m.Run())
	}
	j := New(Config{Dir: dir, Max: 64 << 20, Age: month, Host: "h1", Log: slog.New(slog.DiscardHandler)})
	go func() { _ = j.Run(context.Background()) }()
	for n := 1; ; n++ {
		j.Emit(event.Event{Kind: event.Forced, Subject: strconv.Itoa(n), Text: "to be killed"})
		fmt.Println(n)
		time.Sleep(time.Minute / 10_000)
	}
}

// kill -9 loses at most the last event, at 10 000 a minute, and the next start goes on
// behind it.
func TestKillLosesAtMostTheLastEvent(t *testing.T) {
	dir := t.TempDir() + "/history"
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WEFT_TEST_HISTORY="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		said := 0
		for lines.Scan() {
			said, _ = strconv.Atoi(lines.Text())
			if said == 20+round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		last := 0
		if err := read(t.Context(), dir, Filter{}, func(e Entry) bool { last, _ = strconv.Atoi(e.Subject); return true }); err != nil {
			t.Fatal(err)
		}
		if last < said-1 {
			t.Errorf("%d were emitted, the last that is written is %d", said, last)
		}
	}
}
