package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/pace"
)

// Config is where an engine is looked for, and where it finds us.
type Config struct {
	Socket   string       // of the engine
	Plugin   string       // path of the plugin socket
	Listener net.Listener // the plugin socket, if somebody made it already; nil: made when an engine is found
	Log      *slog.Logger
}

// Service is the agent's side of one Docker engine.
type Service struct {
	cfg    Config
	log    *slog.Logger
	at     place // of the engine
	driver *driver
	engine *engine

	mu        sync.Mutex
	listening bool
	taken     error // why the plugin socket is not ours
}

// New returns a service; nothing is looked for before Run.
func New(cfg Config, a Agent) *Service {
	log := cfg.Log.With("part", "docker")
	s := &Service{cfg: cfg, log: log, at: placeOf(cfg.Socket), driver: newDriver(a, log), engine: newEngine(a, log)}
	s.driver.refusedBy = s.engine.declinedBy
	return s
}

// lookEvery is the pause between two looks for an engine.
const lookEvery = time.Second

// stopWithin is how long calls under way may take at a stop. With what the agent
// does afterwards it is below TimeoutStopSec of agentd.service.
const stopWithin = 8 * time.Second

// Run serves the plugin socket and follows the engine until ctx ends, which is no
// error; that the socket cannot be served is one. A host without Docker costs a
// look a second.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(api.WithCaller(ctx, "docker"))
	if s.cfg.Listener != nil {
		s.serve(ctx, group, s.cfg.Listener)
	}
	group.Go(func() error { s.look(ctx, group); return nil })
	return group.Wait()
}

// look follows the engine whenever there is one.
func (s *Service) look(ctx context.Context, group *errgroup.Group) {
	for {
		found, err := find(s.at)
		if !found { // else what is wrong with it is known until it was asked
			s.engine.note(err)
		}
		if found && s.listen(ctx, group) {
			err := s.engine.follow(ctx, s.at)
			if ctx.Err() == nil {
				if !errors.Is(err, errLost) {
					s.engine.note(err)
				}
				s.log.Info("docker engine lost", "socket", s.cfg.Socket, "err", err)
			}
		}
		if !pace.Sleep(ctx, lookEvery) {
			return
		}
	}
}

// listen makes the plugin socket, unless we have it; false: another agent does,
// and the engine is its.
func (s *Service) listen(ctx context.Context, group *errgroup.Group) bool {
	s.mu.Lock()
	listening := s.listening
	s.mu.Unlock()
	if listening {
		return true
	}
	l, err := api.ListenUnix(s.cfg.Plugin)
	if err == nil {
		err = os.Chmod(s.cfg.Plugin, 0o600) // whoever may speak to it may take any address
	}
	s.mu.Lock()
	changed := (err == nil) != (s.taken == nil)
	s.taken = err
	s.mu.Unlock()
	if err != nil {
		if changed {
			s.log.Warn("docker's plugin socket is not ours", "socket", s.cfg.Plugin, "err", err)
		}
		return false
	}
	s.log.Info("serving docker", "socket", s.cfg.Plugin)
	s.serve(ctx, group, l)
	return true
}

func (s *Service) serve(ctx context.Context, group *errgroup.Group, l net.Listener) {
	s.mu.Lock()
	s.listening = true
	s.mu.Unlock()
	server := &http.Server{Handler: s.driver.handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("docker's plugin socket: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		// Calls under way end first: Docker asks none again.
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.log.Warn("docker calls are cut off", "err", err)
		}
		return nil
	})
}

// Clear takes the Docker networks of the cluster away from the engine, with
// the containers that are still on them. It is for a host that leaves.
func (s *Service) Clear(ctx context.Context) error { return s.engine.clear(ctx) }

// Checks are the lines of status about Docker; none on a host without it.
func (s *Service) Checks() []api.Check {
	s.mu.Lock()
	taken := s.taken
	s.mu.Unlock()
	c, there := s.engine.check()
	if !there && taken == nil {
		return nil
	}
	switch {
	case errors.Is(taken, syscall.EADDRINUSE):
		c.State, c.Detail = api.CheckFail, "another agent serves "+s.cfg.Plugin+": this host's Docker is not ours"
		c.Hint = "agentd --docker-plugin-socket PATH # one of its own; or stop the other agent"
	case taken != nil:
		c.State, c.Detail = api.CheckFail, taken.Error()
		c.Hint = "editor /etc/weft/agentd.yaml # docker_plugin_socket chooses another"
	}
	return []api.Check{c}
}
