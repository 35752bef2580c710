// Package stage is what one host does when a run of the connectivity suite asks it: it
// makes endpoints in throw-away namespaces, tries what it is told from there, and removes
// all of it, also when nobody asks it to any more.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

const (
	// Port is where the echo servers of a run listen, on TCP and UDP.
	Port = 7007
	// orphaned is how long a run lives that nobody asks for anything. Touches come
	// much more often.
	orphaned = 15 * time.Second
	// longest is how long a run may last.
	longest = 3 * time.Minute

	attachFor  = 10 * time.Second
	mostActors = 16
	mostTries  = 256 // of a question
	atOnce     = 8   // tries
)

// Labels of what a run makes, on networks and endpoints.
const (
	LabelRun   = "weft.test"       // the run's id
	LabelBy    = "weft.test.by"    // of networks: the host that asked for the run
	LabelUntil = "weft.test.until" // of networks: when anybody may remove it, in seconds since 1970
)

// Until is the value of LabelUntil for a run that begins now.
func Until(now time.Time) string { return fmt.Sprint(now.Add(longest).Unix()) }

// Host is what a stage asks its agent for.
type Host interface {
	Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error)
	Detach(ctx context.Context, network, nameOrID string) error
	Endpoints(ctx context.Context, f api.EndpointFilter) ([]api.Endpoint, error)
	Networks(ctx context.Context) ([]api.Network, error)
	NetworkRemove(ctx context.Context, nameOrID string, force bool) error
	Members(ctx context.Context) ([]api.Member, error)
}

// Within makes namespaces and tries from there; an empty path is the host's.
type Within interface {
	Make() (path string, room io.Closer, err error)
	Serve(path string, at netip.AddrPort, name string) (io.Closer, error)
	Speak(ctx context.Context, path string, s overlay.Speech) (who string, err error)
	Ping(ctx context.Context, path string, e overlay.Echoes) ([]overlay.Echo, error)
	Resolve(ctx context.Context, path string, server netip.AddrPort, name string, reverse bool) ([]string, error)
}

// Engine makes containers that do nothing but have a network, and removes all of a label
// but those of one value.
type Engine interface {
	Usable() error
	Start(ctx context.Context, network, name, label, value string) (path string, a netip.Addr, err error)
	Remove(ctx context.Context, label, keep string) error
}

// Config is what a stage stands on.
type Config struct {
	Host    Host
	Within  Within
	Engine  Engine        // Docker's; nil: the agent serves none
	Self    func() string // name of this host
	Refuses bool          // test_peers: false
	Log     *slog.Logger
}

// Stage has at most one run at a time. Run sweeps what is left of others.
type Stage struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	run     *run       // nil: none
	expired map[string]bool
	cleared bool            // the engine has no containers of runs before
	asking  map[string]bool // runs that this host asks for, whether it takes part or not
}

// New makes a stage on which nothing runs.
func New(cfg Config) *Stage {
	return &Stage{cfg: cfg, expired: map[string]bool{}, asking: map[string]bool{}}
}

// Asking keeps the networks of a run that this host asks for until done is called.
func (s *Stage) Asking(run string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking[run] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asking, run)
	}
}

// run is one run's part on this host.
type run struct {
	id, by  string
	began   time.Time
	touched time.Time // guarded by Stage.mu
	ctx     context.Context
	cancel  context.CancelFunc

	work   sync.RWMutex // held for reading by each question; by end for writing
	mu     sync.Mutex   // guards what follows
	actors map[string]*actor
	ended  bool
}

// actor is an endpoint of a run.
type actor struct {
	network string
	path    string
	gateway netip.Addr
	room    io.Closer // nil: it is a container
	server  io.Closer
}

// Do answers a question of the host that asks for a run.
func (s *Stage) Do(ctx context.Context, q Question) (Answer, error) {
	if q.Do == Open {
		return s.open(q)
	}
	r, err := s.running(q.Run)
	if err != nil {
		return Answer{}, err
	}
	if q.Do == Close {
		return Answer{}, s.end(ctx, r)
	}
	r.work.RLock()
	defer r.work.RUnlock()
	if r.ended { // end is over, else it would hold work
		return Answer{}, fmt.Errorf("run %s has ended on %s", q.Run, s.cfg.Self())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	switch q.Do {
	case Touch:
		return Answer{}, nil
	case Enter:
		return s.enter(ctx, r, q.Actor)
	case Exit:
		return Answer{}, s.exit(ctx, r, q.Actor.Name)
	case Attempt:
		return s.attempt(ctx, r, q.Tries)
	}
	return Answer{}, fmt.Errorf("a run cannot %q: the release that asks is newer", q.Do)
}

// open begins a run, unless there is one, or this host wants none.
func (s *Stage) open(q Question) (Answer, error) {
	if s.cfg.Refuses {
		return Answer{Refused: "test_peers: false in agentd.yaml of " + s.cfg.Self()}, nil
	}
	if !validRun(q.Run) {
		return Answer{}, fmt.Errorf("%q is no id of a run", q.Run)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil && s.run.id != q.Run {
		return Answer{Busy: fmt.Sprintf("%s, since %s", s.run.by, s.run.began.UTC().Format(time.TimeOnly+"Z"))}, nil
	}
	if s.run == nil {
		r := &run{id: q.Run, by: q.By, began: time.Now(), touched: time.Now(), actors: map[string]*actor{}}
		r.ctx, r.cancel = context.WithTimeout(context.Background(), longest)
		s.run = r
		s.cfg.Log.Info("a run of the suite begins", "run", q.Run, "by", q.By)
	}
	return Answer{NoDocker: s.noDocker()}, nil
}

// noDocker says why there are no containers here.
func (s *Stage) noDocker() string {
	if s.cfg.Engine == nil {
		return "the agent serves no Docker"
	}
	if err := s.cfg.Engine.Usable(); err != nil {
		return err.Error()
	}
	return ""
}

// running is the run of that id, which is heard of now.
func (s *Stage) running(id string) (*run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.id != id {
		return nil, fmt.Errorf("run %s is not under way on %s", id, s.cfg.Self())
	}
	s.run.touched = time.Now()
	return s.run, nil
}

// enter attaches an actor and gives it an echo server.
func (s *Stage) enter(ctx context.Context, r *run, a *Actor) (Answer, error) {
	r.mu.Lock()
	full := len(r.actors) >= mostActors
	r.mu.Unlock()
	if a == nil || full {
		return Answer{}, fmt.Errorf("a run has 1 to %d endpoints on a host", mostActors)
	}
	if !strings.HasPrefix(a.Network, NetworkName(r.id, "")) {
		return Answer{}, fmt.Errorf("%s is no network of run %s", a.Network, r.id)
	}
	if a.Container {
		return s.contain(ctx, r, a)
	}
	path, room, err := s.cfg.Within.Make()
	if err != nil {
		return Answer{}, err
	}
	one := &actor{network: a.Network, path: path, room: room}
	// An attach that is cut short may have a block of addresses in the store that this host
	// does not know of, for which the network's end would wait.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), attachFor)
	defer cancel()
	at, err := s.cfg.Host.Attach(whole, api.AttachRequest{Network: a.Network, Netns: path, Name: a.Name, Aliases: a.Aliases, IP: a.IP, Ports: a.Ports,
		Labels: map[string]string{LabelRun: r.id}})
	if err != nil {
		return Answer{}, errors.Join(err, room.Close())
	}
	r.mu.Lock()
	r.actors[a.Name] = one // from now on end removes it
	r.mu.Unlock()
	prefix, err := netip.ParsePrefix(at.Address)
	if err != nil {
		return Answer{}, err
	}
	one.gateway, _ = netip.ParseAddr(at.Gateway)
	if len(at.DNS) > 0 {
		one.gateway, _ = netip.ParseAddr(at.DNS[0])
	}
	if one.server, err = s.cfg.Within.Serve(path, netip.AddrPortFrom(prefix.Addr(), Port), a.Name); err != nil {
		return Answer{}, err
	}
	return Answer{Placed: &Placed{Addr: prefix.Addr(), MTU: at.MTU}}, nil
}

// contain is enter for one that is a container.
func (s *Stage) contain(ctx context.Context, r *run, a *Actor) (Answer, error) {
	if why := s.noDocker(); why != "" {
		return Answer{}, errors.New(why)
	}
	one := &actor{gateway: embedded}
	r.mu.Lock()
	r.actors[a.Name] = one
	r.mu.Unlock()
	path, addr, err := s.cfg.Engine.Start(ctx, a.Network, a.Name, LabelRun, r.id)
	if err != nil {
		return Answer{}, err
	}
	one.path = path
	if one.server, err = s.cfg.Within.Serve(path, netip.AddrPortFrom(addr, Port), a.Name); err != nil {
		return Answer{}, err
	}
	return Answer{Placed: &Placed{Addr: addr}}, nil
}

// embedded is where programs in Docker's containers ask for names.
var embedded = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// exit detaches an actor.
func (s *Stage) exit(ctx context.Context, r *run, name string) error {
	r.mu.Lock()
	one := r.actors[name]
	delete(r.actors, name)
	r.mu.Unlock()
	if one == nil {
		return fmt.Errorf("run %s has no endpoint %s on %s", r.id, name, s.cfg.Self())
	}
	return s.remove(ctx, name, one)
}

func (s *Stage) remove(ctx context.Context, name string, one *actor) error {
	var err error
	if one.server != nil {
		err = one.server.Close()
	}
	if one.room == nil {
		return errors.Join(err, s.cfg.Engine.Remove(ctx, LabelRun, ""))
	}
	return errors.Join(err, s.cfg.Host.Detach(ctx, one.network, name), one.room.Close())
}

// end removes all of a run. What cannot be removed now is tried again by sweep: the
// namespaces are gone at any rate, and endpoints with them.
func (s *Stage) end(ctx context.Context, r *run) error {
	r.cancel()
	r.work.Lock()
	defer r.work.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(r.actors))
	i := 0
	for name, one := range r.actors {
		at := i
		i++
		wg.Go(func() { errs[at] = s.remove(ctx, name, one) })
	}
	wg.Wait()
	r.actors, r.ended = nil, true
	s.mu.Lock()
	if s.run == r {
		s.run = nil
	}
	s.mu.Unlock()
	err := errors.Join(errs...)
	s.cfg.Log.Info("a run of the suite has ended", "run", r.id, "by", r.by, "err", err)
	return err
}
