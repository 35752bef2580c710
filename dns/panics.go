package dns

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"
)

// panics makes a panic over what an upstream said, or over a question, the error of
// that question. A question that is asked for many at once runs in goroutines that
// nobody else guards, and the agent would end with it.
type panics struct {
	log  *slog.Logger
	said rate.Sometimes // whoever can cause one panic can cause many
}

func newPanics(log *slog.Logger) *panics {
	return &panics{log: log, said: rate.Sometimes{Interval: time.Minute}}
}

// caught is deferred by a function that returns err.
func (p *panics) caught(what string, err *error) {
	if cause := recover(); cause != nil {
		stack := string(debug.Stack())
		p.said.Do(func() { p.log.Error("a question panicked", "what", what, "panic", cause, "stack", stack) })
		*err = fmt.Errorf("%s: internal error: %v", what, cause)
	}
}
