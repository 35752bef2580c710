package gossip

import (
	"sync"
	"sync/atomic"
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
	waiting  atomic.Int64 // bytes of messages

	mu     sync.Mutex // guards events
	events []event
}

func newInbox(count *counters) *inbox {
	return &inbox{messages: make(chan []byte, 8192), ready: pace.NewSignal(), count: count}
}

const (
	largest   = 512 << 10 // bytes of a message: a state has half of it at most
	waitsMost = 8 << 20   // bytes of the messages that wait
)

// putMessage drops a message that finds the queue full: digests repair it.
func (i *inbox) putMessage(b []byte) {
	if i.waiting.Add(int64(len(b))) <= waitsMost {
		select {
		case i.messages <- b:
			return
		default:
		}
	}
	i.waiting.Add(-int64(len(b)))
	i.count.inboxFull.Add(1)
}

// took notes that a message was taken out of the queue.
func (i *inbox) took(b []byte) []byte {
	i.waiting.Add(-int64(len(b)))
	return b
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
