// Package recent keeps the last lines of a log in memory, for who asks afterwards what
// happened.
package recent

import (
	"context"
	"log/slog"
	"sync"
)

// most is how many bytes of lines are kept: some thousand lines.
const most = 256 << 10

// Lines are the last lines of a log.
type Lines struct {
	mu    sync.Mutex
	lines [][]byte
	size  int
}

// Write implements io.Writer: one call is one line.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, append([]byte(nil), b...))
	l.size += len(b)
	for l.size > most && len(l.lines) > 1 {
		l.size -= len(l.lines[0])
		l.lines = l.lines[1:]
	}
	return len(b), nil
}

// Text is what is kept, the oldest line first.
func (l *Lines) Text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]byte, 0, l.size)
	for _, line := range l.lines {
		out = append(out, line...)
	}
	return out
}

// Keep returns a logger that does as log does, and has its lines kept too.
func Keep(log *slog.Logger) (*slog.Logger, *Lines) {
	l := &Lines{}
	return slog.New(tee{log.Handler(), slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})}), l
}

// tee hands what the first handler takes to the second one as well.
type tee struct{ log, kept slog.Handler }

// Enabled implements slog.Handler.
func (t tee) Enabled(ctx context.Context, level slog.Level) bool { return t.log.Enabled(ctx, level) }

// Handle implements slog.Handler.
func (t tee) Handle(ctx context.Context, r slog.Record) error {
	_ = t.kept.Handle(ctx, r.Clone()) // into memory
	return t.log.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tee{t.log.WithAttrs(attrs), t.kept.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (t tee) WithGroup(name string) slog.Handler {
	return tee{t.log.WithGroup(name), t.kept.WithGroup(name)}
}
