package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery/pace"
)

// door is a way in beside the API's socket. The agent works without it: one that
// cannot be opened is tried again, and is told in status.
type door struct {
	what, at string // in words, and where
	open     func() (net.Listener, error)
	serve    func(context.Context, net.Listener, api.Service, *slog.Logger) error

	mu  sync.Mutex
	err error // why it is not open
}

const doorAgain = 2 * time.Second

// doors are those of one agent.
type doors []*door

func newDoors(cfg config.Config) doors {
	public := api.PublicSocket(cfg.Socket())
	out := doors{{what: "public socket", at: public, open: func() (net.Listener, error) { return api.ListenPublic(public) }, serve: api.ServePublic}}
	if at := cfg.MetricsListen; at.IsValid() {
		out = append(out, &door{what: "metrics", at: "http://" + at.String() + "/metrics", open: func() (net.Listener, error) { return listenMetrics(at) }, serve: api.ServeMetrics})
	}
	return out
}

// listenMetrics names the program that has the port.
func listenMetrics(at netip.AddrPort) (net.Listener, error) {
	l, err := net.Listen("tcp", at.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		err = hostport.Held(err, "for metrics", at.Port(), "tcp")
	}
	return l, err
}

// run serves until ctx ends.
func (d *door) run(ctx context.Context, s api.Service, log *slog.Logger) error {
	for {
		l, err := d.open()
		d.note(err, log)
		if err == nil {
			if err = d.serve(ctx, l, s, log); ctx.Err() == nil {
				d.note(err, log)
			}
		}
		if !pace.Sleep(ctx, doorAgain) {
			return nil
		}
	}
}

// note keeps how the door is, and logs what is new.
func (d *door) note(err error, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && fmt.Sprint(err) != fmt.Sprint(d.err) {
		log.Warn(d.what+" not served, will be retried", "at", d.at, "err", err)
	}
	d.err = err
}

// state is the door as the check sees it.
func (d *door) state() diagnose.Door {
	d.mu.Lock()
	defer d.mu.Unlock()
	return diagnose.Door{What: d.what, At: d.at, Err: d.err}
}

// check is the line of status about them.
func (ds doors) check() api.Check {
	var all []diagnose.Door
	for _, d := range ds {
		all = append(all, d.state())
	}
	return diagnose.Doors(all)
}
