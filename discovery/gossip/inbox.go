package gossip

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery/pace"
)

// event is one thing that a callback of memberlist saw.
type event struct {
	kind  eventKind
	node  memberlist.Node // a copy
	rtt   time.Duration
	bytes []byte
}

type eventKind int

const (
	memberUp eventKind = iota
	memberDown
	probeAnswered
	digestReceived
	refusedAlive
	idTaken
)

// inbox is what waits for Run's goroutine: messages, and events in their order.
// The events are without bound: their number is that of members coming and going,
// and of one probe a second.
type inbox struct {
	messages chan []byte
	ready    pace.Signal // an event came
	count    *counters

	mu     sync.Mutex // guards events
	events []event
}

func newInbox(count *counters) *inbox {
	return &inbox{messages: make(chan []byte, 8192), ready: pace.NewSignal(), count: count}
}

// putMessage drops a message that finds the queue full: digests repair it.
func (i *inbox) putMessage(b []byte) {
	select {
	case i.messages <- b:
	default:
		i.count.inboxFull.Add(1)
	}
}

func (i *inbox) putEvent(e event) {
	i.mu.Lock()
	i.events = append(i.events, e)
	i.mu.Unlock()
	i.ready.Set()
}

func (i *inbox) takeEvents() []event {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := i.events
	i.events = nil
	return out
}
