package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// quiet is how long alike lines of memberlist are counted instead of logged.
const quiet = 10 * time.Second

// logBridge turns the lines that memberlist prints into records. Anyone can
// send bytes to the gossip port, and each bad packet prints one line: of many
// alike the first is logged and the rest counted.
type logBridge struct {
	log  *slog.Logger
	junk func(from netip.Addr) // bytes that made no sense came from there; it may be invalid

	mu   sync.Mutex // guards seen
	seen map[string]*repeated
}

type repeated struct {
	since time.Time
	more  int
}

func newLogBridge(l *slog.Logger, junk func(from netip.Addr)) *logBridge {
	return &logBridge{log: l, junk: junk, seen: map[string]*repeated{}}
}

func (b *logBridge) logger() *log.Logger { return log.New(b, "", 0) }

// Write implements io.Writer: one call is one line.
func (b *logBridge) Write(line []byte) (int, error) {
	n := len(line)
	level, text := levelOf(bytes.TrimSpace(line))
	if from, ok := senderIn(text); ok && level >= slog.LevelWarn {
		b.junk(from)
	}
	if more, ok := b.pass(level, text); ok {
		b.log.Log(context.Background(), level, "memberlist", "text", string(text), "alike", more)
	}
	return n, nil
}

var levels = []struct {
	prefix string
	level  slog.Level
}{
	{"[DEBUG] memberlist: ", slog.LevelDebug},
	{"[INFO] memberlist: ", slog.LevelDebug},
	{"[WARN] memberlist: ", slog.LevelWarn},
	{"[ERR] memberlist: ", slog.LevelWarn},
	{"[ERROR] memberlist: ", slog.LevelWarn},
}

// ordinary begins the lines that memberlist warns with whenever a host stops,
// starts, is slow or was replaced. That a member is away is told by View, and
// by us.
var ordinary = []string{
	"Refuting ", // somebody thought us dead, and is told better
	"Got ping for unexpected node",
	"ignoring alive message for",
	"Leave but we're not in the node map",
	"Failed fallback TCP ping",
	"Failed to send ", // a ping, gossip, an ack
	"Failed to forward ack",
	"Push/Pull with ",
}

// hangups end the lines about a connection that its other end gave up: a probe
// of the port, or a host that stops.
var hangups = []string{"EOF", "connection reset by peer", "broken pipe"}

func levelOf(line []byte) (slog.Level, []byte) {
	if bytes.Contains(line, []byte(net.ErrClosed.Error())) {
		return slog.LevelDebug, line // we are shutting down
	}
	for _, l := range levels {
		if rest, ok := bytes.CutPrefix(line, []byte(l.prefix)); ok {
			return min(l.level, levelOfText(string(rest))), rest
		}
	}
	return slog.LevelDebug, line
}

func levelOfText(text string) slog.Level {
	for _, begin := range ordinary {
		if strings.HasPrefix(text, begin) {
			return slog.LevelDebug
		}
	}
	why, _, _ := strings.Cut(text, " from=")
	for _, end := range hangups {
		if strings.HasSuffix(why, end) {
			return slog.LevelDebug
		}
	}
	return slog.LevelWarn
}

// pass reports whether the line is to be logged, and how many alike were not
// since the last one.
func (b *logBridge) pass(level slog.Level, text []byte) (more int, ok bool) {
	if !b.log.Enabled(context.Background(), level) {
		return 0, false
	}
	if level < slog.LevelWarn {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := string(text[:min(len(text), 16)]) // before names and addresses begin
	r, now := b.seen[key], time.Now()
	if r != nil && now.Sub(r.since) < quiet {
		r.more++
		return 0, false
	}
	if r != nil {
		more = r.more
	}
	if len(b.seen) >= 256 {
		clear(b.seen)
	}
	b.seen[key] = &repeated{since: now}
	return more, true
}
