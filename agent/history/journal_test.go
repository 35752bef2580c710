package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/agent/event"
)

const month = 30 * 24 * time.Hour

// running is a journal at work in a directory, until stop.
func running(t interface{ Helper() }, dir string, largest int64) (j *Journal, stop func()) {
	t.Helper()
	j = New(Config{Dir: dir, Max: largest, Age: month, Host: "h1", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = j.Run(ctx) }()
	return j, func() { cancel(); <-done }
}

// all are the entries that match.
func all(t interface{ Fatal(...any) }, j *Journal, f Filter) (out []Entry) {
	if err := j.Read(context.Background(), f, func(e Entry) bool { out = append(out, e); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

func subjects(entries []Entry) (out []string) {
	for _, e := range entries {
		out = append(out, e.Subject)
	}
	return out
}

// Whatever was emitted is read, over any number of restarts and torn ends, in order and
// with growing numbers; and of it just what a filter asks for.
func TestWhatWasEmittedIsRead(t *testing.T) {
	top := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(top, "")
		if err != nil {
			t.Fatal(err)
		}
		dir += "/history"
		j, stop := running(t, dir, 1<<20)
		defer func() { stop() }()
		var model []event.Event
		kinds := event.Kinds()
		base := time.Now()
		t.Repeat(map[string]func(*rapid.T){
			"emit": func(t *rapid.T) {
				e := event.Event{At: base.Add(time.Duration(len(model)) * time.Microsecond).UTC(), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Subject: fmt.Sprint("s", len(model)),
					Network: rapid.SampledFrom([]string{"", "blue", "red"}).Draw(t, "network"), Endpoint: rapid.SampledFrom([]string{"", "abcd1234", "beef5678"}).Draw(t, "endpoint"),
					Text: rapid.String().Draw(t, "text")}
				j.Emit(e)
				model = append(model, e)
			},
			"restart": func(*rapid.T) { stop(); j, stop = running(t, dir, 1<<20) },
			"killed in a write": func(t *rapid.T) {
				stop()
				if names, _ := list(dir); len(names) > 0 {
					f, err := os.OpenFile(segmentPath(dir, names[len(names)-1].first), os.O_WRONLY|os.O_APPEND, 0)
					if err != nil {
						t.Fatal(err)
					}
					torn := append(encode(Entry{1 << 40, event.Event{Kind: event.Forced}}), "\x00\x00{}\n"...)
					_, _ = f.Write(torn[:rapid.IntRange(0, len(torn)-7).Draw(t, "cut")])
					_ = f.Close()
				}
				j, stop = running(t, dir, 1<<20)
			},
			"": func(t *rapid.T) {
				f := Filter{Kinds: rapid.SampledFrom([][]event.Kind{nil, {event.Forced, event.Conflict}}).Draw(t, "kinds"),
					Network: rapid.SampledFrom([]string{"", "blue"}).Draw(t, "of network"), Endpoint: rapid.SampledFrom([]string{"", "abcd"}).Draw(t, "of endpoint")}
				if n := rapid.IntRange(0, len(model)).Draw(t, "since"); n < len(model) {
					f.Since = model[n].At
				}
				var want []string
				for _, e := range model {
					if !e.At.Before(f.Since) && (f.Kinds == nil || slices.Contains(f.Kinds, e.Kind)) && (f.Network == "" || e.Network == f.Network) &&
						(f.Endpoint == "" || strings.HasPrefix(e.Endpoint, f.Endpoint)) {
						want = append(want, e.Subject)
					}
				}
				got := all(t, j, f)
				if !slices.Equal(subjects(got), want) {
					t.Fatalf("%+v:\n%q, want\n%q", f, subjects(got), want)
				}
				if !slices.IsSortedFunc(got, func(a, b Entry) int { return int(a.ID - b.ID) }) {
					t.Fatalf("numbers that do not grow: %v", got)
				}
			},
		})
	})
}

func TestATornEndIsCutOff(t *testing.T) {
	whole := string(encode(Entry{7, event.Event{Kind: event.Forced, Subject: "kept"}}))
	long := strings.Repeat("x", 5*largest)
	for name, end := range map[string]string{
		"nothing": "", "half a line": whole[:20], "zeros of a power cut": strings.Repeat("\x00", 4096), "zeros and a line end": "\x00\x00\n",
		"a line of no entry": "{}\n", "much of nothing": long, "lines of nothing": strings.Repeat("{}\n", largest),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/history"
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segmentPath(dir, 7), []byte(whole+end), 0o600); err != nil {
				t.Fatal(err)
			}
			j, stop := running(t, dir, 1<<20)
			defer stop()
			j.Emit(event.Event{Kind: event.Forced, Subject: "new"})
			if got := subjects(all(t, j, Filter{})); !slices.Equal(got, []string{"kept", "new"}) {
				t.Errorf("%q", got)
			}
			names, _ := list(dir)
			b, _ := os.ReadFile(segmentPath(dir, names[0].first))
			if !bytes.HasPrefix(b, []byte(whole)) || bytes.Contains(b[len(whole):], []byte("x")) {
				t.Errorf("%.200q", b)
			}
		})
	}
}

// A directory that is not ours is left as it is, and the events are counted.
func TestADirectoryThatIsNotOursIsLeftAlone(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"a foreign file":    func(dir string) error { return os.WriteFile(dir+"/photo.jpg", []byte("x"), 0o600) },
		"a link":            func(dir string) error { return os.Symlink("/etc/passwd", segmentPath(dir, 1)) },
		"a directory in it": func(dir string) error { return os.Mkdir(segmentPath(dir, 1), 0o700) },
		"writable by all":   func(dir string) error { return os.Chmod(dir, 0o777) },
		"another owner":     func(dir string) error { return os.Chown(dir, 12345, -1) },
		"a file": func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, []byte("mine"), 0o600))
		},
		"a file of another owner": func(dir string) error {
			return errors.Join(os.WriteFile(segmentPath(dir, 1), nil, 0o600), os.Chown(segmentPath(dir, 1), 12345, -1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a file away")
			}
			dir := t.TempDir() + "/history"
			if err := errors.Join(os.Mkdir(dir, 0o700), spoil(dir)); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			j, stop := running(t, dir, 1<<20)
			defer stop()
			for range 3 {
				j.Emit(event.Event{Kind: event.Forced})
			}
			j.flush(t.Context())
			s := j.State()
			if !errors.Is(s.Err, ErrForeign) || !strings.Contains(s.Err.Error(), dir) || s.Lost != 3 {
				t.Errorf("%v, %d lost", s.Err, s.Lost)
			}
			if err := j.Read(t.Context(), Filter{}, func(Entry) bool { return true }); !errors.Is(err, ErrForeign) {
				t.Errorf("read: %v", err)
			}
			if after := listing(t, dir); after != before {
				t.Errorf("%s\nbecame\n%s", before, after)
			}
		})
	}
}

// listing is all that is below a path.
func listing(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		fmt.Fprintln(&b, path, info.Mode(), info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheDiskIsBounded(t *testing.T) {
	dir := t.TempDir() + "/history"
	const most = 1 << 20
	j, stop := running(t, dir, most)
	defer stop()
	n := 0
	for total := 0; total < 3*most; n++ {
		e := event.Event{Kind: event.Forced, Subject: fmt.Sprint(n), Text: strings.Repeat("x", 1000)}
		total += 1000
		j.Emit(e)
		if n%1000 == 0 {
			j.flush(t.Context())
		}
	}
	got := all(t, j, Filter{})
	names, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, one := range names {
		sum += one.bytes
	}
	if sum > most || sum < most*5/8 { // one write of 256 events is a quarter
		t.Errorf("%d bytes in %d segments, at most %d", sum, len(names), most)
	}
	if newest := got[len(got)-1].Subject; newest != fmt.Sprint(n-1) {
		t.Errorf("the newest is %s of %d", newest, n)
	}
	if first, last := got[0], got[len(got)-1]; int(last.ID-first.ID) < len(got)-1 {
		t.Errorf("%d entries from %d to %d", len(got), first.ID, last.ID)
	}
}

func TestOldEventsGo(t *testing.T) {
	dir := t.TempDir() + "/history"
	synctest.Test(t, func(t *testing.T) {
		j := New(Config{Dir: dir, Max: 64 << 20, Age: time.Hour, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = j.Run(ctx) }()
		for range 200 {
			j.Emit(event.Event{Kind: event.Forced})
			time.Sleep(time.Minute)
		}
		got := all(t, j, Filter{})
		if oldest := time.Since(got[0].At); oldest < time.Hour || oldest > time.Hour*9/8 {
			t.Errorf("the oldest of %d is %s old", len(got), oldest)
		}
		cancel()
		<-done
	})
}

// A burst that the disk cannot follow never blocks; what it costs is counted, and said
// in the journal itself.
func TestABurstIsCounted(t *testing.T) {
	dir := t.TempDir() + "/history"
	j := New(Config{Dir: dir, Max: 64 << 20, Age: month, Host: "h1", Log: slog.New(slog.DiscardHandler)})
	for range queued + 50 {
		j.Emit(event.Event{Kind: event.Forced}) // nobody writes yet
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Run(ctx); err != nil {
		t.Fatal(err)
	}
	var written, lost int
	var said any
	err := read(t.Context(), dir, Filter{}, func(e Entry) bool {
		if e.Kind == event.EventsLost {
			lost, said = lost+1, e.Detail["lost"]
		} else {
			written++
		}
		return true
	})
	if err != nil || written != queued || lost != 1 || said != 50.0 || j.State().Lost != 50 {
		t.Errorf("%v: %d written, %d times lost: %v; %+v", err, written, lost, said, j.State())
	}
}

func TestASlowReaderIsDropped(t *testing.T) {
	j, stop := running(t, t.TempDir()+"/history", 64<<20)
	defer stop()
	slow, quick := j.Follow(), j.Follow()
	defer quick.Close()
	for range fed + 10 {
		j.Emit(event.Event{Kind: event.Forced})
		<-quick.C
	}
	n := 0
	for range slow.C {
		n++
	}
	if n != fed || !slow.Slow() || quick.Slow() {
		t.Errorf("the slow one had %d of %d, %v; the quick one %v", n, fed, slow.Slow(), quick.Slow())
	}
	slow.Close() // once more does nothing
}

func TestAHugeEventIsCut(t *testing.T) {
	j, stop := running(t, t.TempDir()+"/history", 64<<20)
	defer stop()
	j.Emit(event.Event{Kind: event.DriftRepaired, Subject: "h1", Text: strings.Repeat("y", 1<<20), Detail: map[string]any{"commands": strings.Repeat("x", 1<<20)}})
	got := all(t, j, Filter{})
	if len(got) != 1 || got[0].Subject != "h1" || len(got[0].Text) > 1024 {
		t.Errorf("%.200v", got)
	}
}

// A clock that is set back makes no number smaller.
func TestNumbersGrowWhateverTheClockSays(t *testing.T) {
	s := segments{}
	a := s.number(time.Unix(2000, 0))
	b := s.number(time.Unix(1000, 0))
	c := s.number(time.Unix(-1, 0))
	if a >= b || b >= c {
		t.Errorf("%d, %d, %d", a, b, c)
	}
}

// The last of a full disk is not written, and once there is room the journal goes on
// and says what is missing.
func TestAFullDiskCostsEvents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) }()
	j, stop := running(t, disk+"/history", 64<<20)
	defer stop()
	emit := func(subject string) { j.Emit(event.Event{Kind: event.Forced, Subject: subject}); j.flush(t.Context()) }
	emit("before")
	if err := os.WriteFile(disk+"/ballast", make([]byte, 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // the room is looked at once a second
	emit("full")
	if s := j.State(); !errors.Is(s.Err, syscall.ENOSPC) || s.Lost != 1 || s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(disk + "/ballast"); err != nil {
		t.Fatal(err)
	}
	emit("after")
	got := all(t, j, Filter{})
	if !slices.Equal(subjects(got), []string{"before", "h1", "after"}) || got[1].Kind != event.EventsLost {
		t.Errorf("%+v", got)
	}
	if s := j.State(); s.Err != nil || s.Lost != 1 {
		t.Errorf("%+v", s)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err == nil {
		t.Error("a file that is open for writing allows a read-only disk?")
	}
}
