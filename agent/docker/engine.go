package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
)

const (
	syncSoon     = 100 * time.Millisecond  // when a network could not be made or removed; twice as long each time
	syncAgain    = 5 * time.Second         // and no longer than this
	wantedEvery  = 250 * time.Millisecond  // between two looks at what the cluster has
	compareEvery = time.Minute             // between two comparisons with Docker's list
	compareSoon  = 5 * time.Second         // when the last one could not be made, or found endpoints of nobody
	compareAgain = 1200 * time.Millisecond // when it missed some: the agent forgets those that two are without
	engineWait   = 30 * time.Second        // for an answer of the engine
	pingEvery    = 2 * time.Second
	pingWithin   = 4 * time.Second // what a busy engine never takes
)

// engine follows one Docker engine through its API: never in the path of a
// plugin call, which the engine answers no question during.
type engine struct {
	agent Agent
	log   *slog.Logger

	containers chan struct{}        // filled: what containers were given is to be listed again
	changing   chan struct{}        // full while somebody changes the engine's networks
	vanished   map[string]time.Time // objects that no list has shown since then; guarded by changing
	served     map[string]bool      // Network.ID of those that had their Docker network when last listed; guarded by changing

	mu       sync.Mutex
	api      *client.Client // nil: no engine
	version  client.ServerVersionResult
	failed   error             // why there is none, or none of ours
	silent   time.Time         // since when it does not answer; zero: it does
	problems []string          // for status
	declined map[string]error  // why the cluster does not take declared networks, by Docker's id
	unknown  []string          // containers of the engine whose endpoints the agent does not know
	objects  map[string]string // Docker network id to name: those of ours, as last listed
	names    *names
}

func newEngine(a Agent, log *slog.Logger) *engine {
	return &engine{agent: a, log: log, changing: make(chan struct{}, 1), containers: make(chan struct{}, 1)}
}

// declinedBy is why the cluster does not take a declared network; nil: it may yet.
func (e *engine) declinedBy(dockerID string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.declined[dockerID]
}

// errLost: the engine went away, as it does when it is stopped.
var errLost = errors.New("the connection ended")

// note remembers why no engine is followed; nil: there is none.
func (e *engine) note(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = err
}

// follow serves an engine until it goes away or ctx ends. Everything is listed
// once; after that events say what to look at again.
func (e *engine) follow(ctx context.Context, at place) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, v, err := open(ctx, at)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the engine does not answer: %w", err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	started := time.Now()
	stream := c.Events(ctx, client.EventsListOptions{
		// What happened between the list and the stream is in the stream.
		Since:   strconv.FormatInt(started.Add(-time.Second).Unix(), 10),
		Filters: client.Filters{}.Add("type", "network", "container"),
	})
	n := newNames(ctx, c, e.agent, e.log)
	defer n.wait()
	defer cancel()
	e.mu.Lock()
	e.api, e.version, e.names, e.failed = c, v, n, nil
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.api, e.problems, e.unknown, e.objects, e.silent = nil, nil, nil, nil, time.Time{}
	}()
	e.log.Info("docker engine found", "version", v.Version, "socket", at.socket)
	return e.loop(ctx, stream)
}

// open checks that the engine answers, in a version that we can speak.
func open(ctx context.Context, at place) (*client.Client, client.ServerVersionResult, error) {
	var none client.ServerVersionResult
	c, err := client.New(client.WithHost("unix://"+at.socket), client.WithUserAgent(api.UserAgent()),
		client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) { return at.dial(ctx) }))
	if err != nil {
		return nil, none, err
	}
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	ping, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		if ping.APIVersion != "" {
			err = fmt.Errorf("the engine speaks API %s: weft needs Docker 20.10 or later: %w", ping.APIVersion, err)
		}
		return nil, none, errors.Join(err, c.Close())
	}
	v, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		if ping.APIVersion != c.ClientVersion() {
			err = fmt.Errorf("the engine speaks API %s and no longer %s: a newer release of weft may: %w", ping.APIVersion, c.ClientVersion(), err)
		}
		return nil, none, errors.Join(err, c.Close())
	}
	return c, v, nil
}

// loop hears events and keeps the networks, side by side: a network that the
// engine does not let go of holds up no container's name.
func (e *engine) loop(ctx context.Context, stream client.EventsResult) error {
	group, ctx := errgroup.WithContext(ctx)
	relist := make(chan struct{}, 1) // one look serves all that happened before it
	group.Go(func() error { return e.hear(ctx, stream, relist) })
	group.Go(func() error { return e.keep(ctx, relist) })
	group.Go(func() error { return e.keepGiven(ctx) })
	group.Go(func() error { return e.probe(ctx) })
	return group.Wait()
}

// probe asks the engine again and again whether it answers: one that hangs keeps
// its connections.
func (e *engine) probe(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		asked := time.Now()
		err := e.ping(ctx)
		e.mu.Lock()
		switch {
		case err == nil && !e.silent.IsZero():
			e.log.Info("the docker engine answers again", "after", time.Since(e.silent).Round(time.Second))
			e.silent = time.Time{}
		case err != nil && e.silent.IsZero() && ctx.Err() == nil:
			e.log.Warn("the docker engine does not answer", "err", err)
			e.silent = asked
		}
		e.mu.Unlock()
	}
}

func (e *engine) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	_, err := e.client().Ping(ctx, client.PingOptions{})
	return err
}

// hear takes the engine's events as they come, and asks for a look at the
// networks.
func (e *engine) hear(ctx context.Context, stream client.EventsResult, relist chan<- struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-stream.Err:
			return fmt.Errorf("%w: %w", errLost, err)
		case m := <-stream.Messages:
			if !e.event(m) {
				continue
			}
			select {
			case relist <- struct{}{}:
			default:
			}
		}
	}
}

// keep keeps the engine's networks as the cluster's are, and the agent's
// endpoints as the engine's are.
func (e *engine) keep(ctx context.Context, relist <-chan struct{}) error {
	tick := time.NewTicker(wantedEvery)
	defer tick.Stop()
	var last wanted
	asked, retry, pause, compare := true, time.Time{}, syncSoon, time.Time{}
	for {
		now := wantedOf(e.agent)
		if asked || !now.equal(last) || !retry.IsZero() && time.Now().After(retry) {
			done, err := e.sync(ctx)
			if err != nil {
				return err
			}
			// The objects that sync itself made are no reason for another one; a
			// network that was created while it ran is.
			asked, retry, last = false, time.Time{}, now
			last.objects = wantedOf(e.agent).objects
			if done {
				pause = syncSoon
			} else {
				retry, pause = time.Now().Add(pause), min(2*pause, syncAgain)
			}
		}
		if time.Now().After(compare) {
			compare = time.Now().Add(e.compare(ctx))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-relist:
			asked = true
		case <-tick.C:
		}
	}
}

// event looks at what an event is about; relist: at the networks.
func (e *engine) event(m events.Message) (relist bool) {
	switch m.Type {
	case events.NetworkEventType:
		switch m.Action {
		case events.ActionCreate, events.ActionDestroy, events.ActionRemove:
			return true
		}
		if m.Actor.Attributes["container"] == "" {
			return false
		}
		switch m.Action {
		case events.ActionConnect:
			e.listGiven()
			if m.Actor.Attributes["type"] == driverName {
				e.names.connected(m.Actor.ID, m.Actor.Attributes["container"])
			} else {
				e.names.look(m.Actor.Attributes["container"])
			}
		case events.ActionDisconnect:
			e.listGiven()
			e.names.disconnected(m.Actor.Attributes["container"])
		}
	case events.ContainerEventType:
		if m.Actor.ID == "" {
			return false
		}
		action, _, _ := strings.Cut(string(m.Action), ":")
		switch events.Action(action) {
		case events.ActionCreate, events.ActionStart:
			e.listGiven()
			e.names.look(m.Actor.ID)
		case events.ActionRename, events.ActionHealthStatus:
			e.names.look(m.Actor.ID)
		case events.ActionDestroy:
			e.listGiven()
			e.names.forget(m.Actor.ID)
		}
	}
	return false
}

// compare hands the agent the list of the engine's endpoints, and returns when
// to do so again. Docker repeats no tear-down that failed.
func (e *engine) compare(ctx context.Context) (again time.Duration) {
	if err := e.sayGiven(ctx); err != nil {
		return compareSoon // an endpoint that ended must not free an address that its container has
	}
	at := time.Now()
	e.mu.Lock()
	c, objects := e.api, e.objects
	e.mu.Unlock()
	if objects == nil {
		// Nothing was listed, as on a host that was taken out of the cluster: that
		// the engine has no endpoints of ours cannot be said.
		return compareSoon
	}
	all, container := map[string]bool{}, map[string]string{}
	for id := range objects {
		n, err := inspectNetwork(ctx, c, id)
		if err != nil {
			return compareSoon
		}
		for cid, r := range n.Containers {
			all[r.EndpointID], container[r.EndpointID] = true, r.Name
			e.names.endpoint(cid, r.EndpointID, r.Name)
		}
	}
	unknown, missing := e.agent.Compare(ctx, at, all)
	for i, id := range unknown {
		unknown[i] = cmp.Or(container[id], id)
	}
	slices.Sort(unknown)
	e.mu.Lock()
	e.unknown = slices.Compact(unknown)
	e.mu.Unlock()
	switch {
	case missing:
		return compareAgain
	case len(unknown) > 0:
		return compareSoon
	}
	return compareEvery
}

// check is the line of status about the engine; there is none without one.
func (e *engine) check() (c api.Check, there bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c = api.Check{Name: "docker", State: api.CheckOK}
	switch {
	case e.api == nil && e.failed == nil:
		return c, false
	case e.api == nil && errors.Is(e.failed, errElsewhere):
		c.State, c.Detail = api.CheckWarn, e.failed.Error()
		c.Hint = "editor /etc/weft/agentd.yaml # docker_socket names that of this host"
	case e.api == nil:
		c.State, c.Detail = api.CheckFail, e.failed.Error()
		c.Hint = "docker version; journalctl -u docker"
	case !e.silent.IsZero():
		c.State, c.Detail = api.CheckFail, fmt.Sprintf("the engine does not answer, for %v: its containers go on, as last seen", time.Since(e.silent).Round(time.Second))
		c.Hint = "docker version; journalctl -u docker; systemctl restart docker"
	case len(e.problems) > 0:
		c.State, c.Detail = api.CheckWarn, strings.Join(e.problems, "; ")
		c.Hint = "docker network ls # docker network rm NAME makes room"
	case len(e.unknown) > 0:
		c.State = api.CheckWarn
		c.Detail = fmt.Sprintf("on networks of the cluster from before this host was a member: %s", strings.Join(e.unknown, ", "))
		c.Hint = "docker restart " + strings.Join(e.unknown, " ")
	default:
		c.Detail = fmt.Sprintf("engine %s, %d networks", e.version.Version, len(e.objects))
	}
	return c, true
}
