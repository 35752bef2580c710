package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/agent/history"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/agent/trial/stage"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// Agent is one member of the overlay, or a host that may become one.
type Agent struct {
	cfg   config.Config
	log   *slog.Logger
	parts Parts
	nonce uint64 // of this start

	refused *strict.Ledger   // at the borders, whether a member or not
	history *history.Journal // of this host, whether a member or not
	peers   peers.Peers      // what other members ask for a person
	stage   *stage.Stage     // of the connectivity suite
	doors   doors            // beside the API's socket
	// since when each check is as it is, of status and of doctor's own
	memory, surveyed diagnose.Memory

	docker Docker        // nil: none
	move   sync.RWMutex  // held while the membership is begun under another address
	change chan struct{} // held by init, join and leave: one at a time
	broken chan error    // why the membership ended that nobody stopped
	ready  chan struct{} // closed by Run

	mu  sync.Mutex
	dir *datadir.Dir
	now *member // nil: not a member
}

// Assemble makes an agent of given parts. Nothing is opened before Run.
func Assemble(cfg config.Config, p Parts, log *slog.Logger) *Agent {
	var b [8]byte
	_, _ = rand.Read(b[:])
	past := newHistory(cfg, log)
	a := &Agent{cfg: cfg, log: log, parts: p, refused: strict.NewLedger(log, refusals(past.Emit)), history: past, nonce: binary.BigEndian.Uint64(b[:]),
		change: make(chan struct{}, 1), broken: make(chan error, 1), ready: make(chan struct{})}
	if p.OpenDocker != nil {
		a.docker = p.OpenDocker(a.driver().Agent())
	}
	a.doors = newDoors(cfg)
	a.stage = newStage(a)
	service{a}.answerMembers()
	return a
}

// driver answers Docker as whichever member this host is.
func (a *Agent) driver() book.Driver {
	return book.Driver{
		Usable: func() (*book.Book, error) {
			m, err := a.requireMember()
			if err == nil {
				err = usable(m)
			}
			if err != nil {
				return nil, err
			}
			return m.book, nil
		},
		Settled: func() *book.Book {
			if m := a.settled(); m != nil {
				return m.book
			}
			return nil
		},
	}
}

// Run serves the API until ctx ends, and the overlay while this host is a
// member. It returns nil when ctx ends; what it programmed stays.
func (a *Agent) Run(ctx context.Context) (err error) {
	if err := a.parts.Host.Privileged(); err != nil {
		return err
	}
	if embedded := a.cfg.Store.Embedded; embedded != "" {
		if err := datadir.CheckStore(embedded + ".db"); err != nil {
			return err
		}
	}
	dir, err := datadir.Open(a.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	defer keepHistory(a, &err)()
	dir.OnRefused(a.refuseFile)
	a.mu.Lock()
	a.dir = dir
	a.mu.Unlock()
	pinned := a.cfg.Advertise.IsValid()
	if !pinned {
		addr, err := a.parts.Host.DefaultAddr()
		if err != nil {
			return fmt.Errorf("advertise: no default route to take the address from: give --advertise: %w", err)
		}
		a.setAdvertise(addr)
	}
	socket, err := a.listen()
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	return a.serve(ctx, socket, pinned)
}

// serve runs all of the agent; it returns when every part of it has ended.
func (a *Agent) serve(ctx context.Context, socket net.Listener, pinned bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.parts.Names.Run(ctx) })
	group.Go(func() error { return a.stage.Run(ctx) })
	group.Go(func() error { return a.serveMember(ctx, group, socket, pinned) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.broken:
			return fmt.Errorf("member: %w", err)
		}
	})
	return group.Wait()
}

// serveMember begins the membership that is on the disk, then answers requests.
// The last of them has its answer before the membership ends.
func (a *Agent) serveMember(ctx context.Context, group *errgroup.Group, socket net.Listener, pinned bool) error {
	if err := a.resume(ctx); err != nil {
		return err
	}
	close(a.ready)
	context.AfterFunc(ctx, a.history.Hush)
	if !pinned {
		group.Go(func() error { return a.follow(ctx) })
	}
	group.Go(func() error { return a.followDisk(ctx) })
	group.Go(func() error { return keepLooking(ctx, a) })
	for _, d := range a.doors {
		group.Go(func() error { return d.run(ctx, service{a}, a.log) })
	}
	served := make(chan struct{}) // Docker has its last answer
	group.Go(func() error {
		defer close(served)
		if a.docker == nil {
			return nil
		}
		return a.docker.Run(ctx)
	})
	err := api.Serve(ctx, socket, service{a}, a.log) // calls under way end first
	<-served
	a.move.RLock()
	defer a.move.RUnlock()
	if m := a.member(); m != nil {
		m.stop()
	}
	return err
}

// Ready is closed when the socket listens and, on a member, its tasks run:
// what was programmed before this start is being looked after again.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Alive returns nil once the loop has made a pass that began after this call,
// or at once when this host is not a member. A pass that hangs holds it until
// ctx ends; a kernel that is not as wanted does not make an agent dead.
func (a *Agent) Alive(ctx context.Context) error {
	m := a.member()
	if m == nil {
		return nil
	}
	if err := m.Settle(ctx); ctx.Err() != nil {
		return fmt.Errorf("no pass of the loop ended: %w", err)
	}
	return nil
}

// exclusively lets one of init, join and leave work at a time; another is
// refused rather than kept waiting.
func (a *Agent) exclusively(what string) (done func(), err error) {
	select {
	case a.change <- struct{}{}:
		return func() { <-a.change }, nil
	default:
		return nil, api.Errorf(api.KindConflict, "%s: another init, join or leave is under way", what).WithHint("agentctl status --wait # then try again")
	}
}

func (a *Agent) listen() (net.Listener, error) {
	if err := datadir.OpenRunDir(a.cfg.RunDir); err != nil {
		return nil, err
	}
	if l := a.parts.Sockets.API; l != nil {
		if given := l.Addr().String(); given != a.cfg.Socket() {
			a.log.Warn("the API is served where the service manager listens, not below run_dir", "addr", given, "run_dir", a.cfg.RunDir)
		}
		return l, nil
	}
	return api.ListenUnix(a.cfg.Socket())
}

// resume makes this host the member that its data directory says it is, or that
// an init was about to make it.
func (a *Agent) resume(ctx context.Context) error {
	if a.dir.Has(datadir.ClusterFile) {
		return a.resumeMember()
	}
	finished, err := a.finishInit(ctx)
	switch {
	case err != nil:
		a.log.Warn("not a member: agentctl init tries again", "err", err)
	case finished:
		a.log.Info("an init that was cut short is finished", "token_file", a.dir.File(datadir.TokenFile))
		_, err = a.resumeInit()
		return err
	default:
		a.log.Info("not a member yet: agentctl init or agentctl join", "member", a.cfg.Name, "addr", a.config().Advertise)
	}
	return nil
}

// resumeMember begins the membership that is on the disk.
func (a *Agent) resumeMember() error {
	var cluster datadir.Cluster
	if err := a.dir.Read(datadir.ClusterFile, &cluster); err != nil {
		return a.explainFile(err)
	}
	if cluster.Cloned { // 0.1.0 took this host out because of its copy; what the pool says is told again
		cluster.Cloned, cluster.Forgotten = false, ""
		if err := a.dir.Write(datadir.ClusterFile, cluster); err != nil {
			a.log.Warn("the next start forgets this", "err", err)
		}
	}
	last := uint64(0)
	if m := a.member(); m != nil {
		last = m.host.Host().Incarnation
	}
	host, unwritten, err := membership.NextStart(a.dir, last)
	if err != nil {
		return a.explainFile(fmt.Errorf("cluster.json is there but not who this host is: %w", err))
	}
	if unwritten != nil {
		a.log.Error("the data directory takes no writes: what is attached goes on, nothing new is attached", "err", unwritten, "hint", diagnose.DiskHint(unwritten))
	}
	m, err := a.open(cluster, host, false)
	if err != nil {
		return err
	}
	if err := m.host.Clones.CheckAlone(m.ctx); err != nil {
		m.stop()
		return err
	}
	m.host.NoteKept()
	a.begin(m)
	a.log.Info("member again", discovery.LogMember(host.Name, host.ID), "incarnation", host.Incarnation, "addr", m.cfg.Advertise)
	return nil
}

// refuseFile notes what a file of the data directory does not say, or says wrongly.
func (a *Agent) refuseFile(source string, why error, hint string) {
	a.refused.Add(strict.Files, strict.Refused{Source: source, Why: why.Error(), Hint: hint})
}

// explainFile adds what to type when a file without which there is no membership is
// lost. The kernel keeps what runs.
func (a *Agent) explainFile(err error) error {
	if !errors.Is(err, datadir.ErrDamaged) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return api.Errorf(api.KindFailed, "%v", err).WithHint("mv %[1]s %[1]s.damaged # or put a copy of it back; then start agentd\nagentctl join ADDRESS --token-file %[1]s.damaged/%[2]s --replace",
		a.dir.Path(), datadir.TokenFile)
}

// begin runs a member; it is the agent's until end.
func (a *Agent) begin(m *member) {
	m.run()
	// A task that fails ends all others. An agent that goes on without them
	// would be a member in name only: it ends too, and is started again.
	go func() {
		<-m.ctx.Done()
		if m.failed() {
			a.broken <- m.tasks.wait()
		}
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = m
}

// member returns what this host is now, nil when it is no member.
func (a *Agent) member() *member {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// settled is member for a call that tears something down: Docker does not repeat
// such a call, so settled waits while the membership is begun under another
// address.
func (a *Agent) settled() *member {
	a.move.RLock()
	defer a.move.RUnlock()
	return a.member()
}

// requireMember is settled for requests that make no sense without one.
func (a *Agent) requireMember() (*member, error) {
	if m := a.settled(); m != nil {
		return m, nil
	}
	return nil, api.Errorf(api.KindFailed, "%s is not a member of a cluster", a.cfg.Name).
		WithHint(api.NotMember)
}
