package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent"
)

// manager is the service manager that started this process (sd_notify(3)).
// Without one everything it is told goes nowhere.
type manager struct{ log *slog.Logger }

func (m manager) tell(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		m.log.Warn("the service manager does not hear", "err", err)
	}
}

// reloading begins a reload, which ends with READY=1. systemd from 253 on wants
// the time, to tell this reload from an earlier one.
func (m manager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("no monotonic clock", "err", err)
	}
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// statusEvery is how old the line of systemctl status may be.
const statusEvery = 5 * time.Second

// follow is called when the agent is ready. It says so, from then on how it fares, and
// that it stops.
func (m manager) follow(ctx context.Context, a *agent.Agent) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return // to look at the status every few seconds would be for nobody
	}
	said := summary(ctx, a)
	m.tell("READY=1", "STATUS="+said)
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.tell("STOPPING=1", "STATUS=stopping; what is attached goes on")
			return
		case <-tick.C:
		}
		if now := summary(ctx, a); now != said && ctx.Err() == nil {
			said = now
			m.tell("STATUS=" + now)
		}
	}
}

// summary is agentctl status in one line: the state, then what is wrong, or who
// is there.
func summary(ctx context.Context, a *agent.Agent) string {
	st, err := a.Status(ctx)
	if err != nil {
		return err.Error()
	}
	detail := ""
	for _, c := range st.Checks {
		switch {
		case c.State == "fail":
			return oneLine(fmt.Sprintf("%s: %s", st.State, cmp.Or(c.Detail, c.Name)))
		case detail == "":
			detail = c.Detail
		}
	}
	return oneLine(st.State + ": " + detail)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// guard tells the watchdog that the agent lives, each third of its time, for as
// long as alive says so. An agent that hangs is silent: it is killed, with a
// trace of where it hung, and started again.
func (m manager) guard(ctx context.Context, alive func(context.Context) error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("no watchdog", "err", err)
	}
	if err != nil || limit <= 0 {
		return
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		silent := time.AfterFunc(limit/2, func() {
			m.log.Error("the agent does not answer itself, the watchdog will restart it", "after", limit)
		})
		err := alive(ctx)
		silent.Stop()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			m.tell("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
