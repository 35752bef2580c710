package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
)

// Who asks the agent to stop stands in the log, with how long it ran.
func TestLogSaysWhoStoppedTheAgent(t *testing.T) {
	for want, why := range map[string]asked{
		"SIGTERM, as systemctl stop": {syscall.SIGTERM, true},
		"SIGTERM from a user":        {syscall.SIGTERM, false},
		"SIGINT, as Ctrl-C":          {syscall.SIGINT, true},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var log bytes.Buffer
		say := sayWhy(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		cancel(why)
		say()
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || !strings.Contains(got, "ran=") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
