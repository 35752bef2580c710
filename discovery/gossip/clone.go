package gossip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/table"
)

const (
	askedWhose = 3               // members that are asked which instance they hold
	answerWait = 3 * time.Second // for one of their answers
)

// clones tells an instance that runs under this host's id from this host's own
// earlier address.
type clones struct {
	self     discovery.HostID
	nonce    uint64
	inc      uint64
	at       netip.AddrPort             // of this instance
	conflict func(other netip.AddrPort) // may be nil
	replica  *replica
	contacts *contacts

	mu       sync.Mutex                  // guards what follows
	heard    map[discovery.HostID]uint64 // messages of the members that are asked, to this instance's port
	checking bool
}

// note counts a message that came to this instance's port by itself: whoever sent it
// holds this host here.
func (c *clones) note(b []byte) {
	from, ok := table.Sender(b)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, asked := c.heard[from]; asked {
		c.heard[from] = n + 1
	}
}

// check looks whether another instance really runs under our id, and which of the two
// goes on. After a change of our own address the members still show the old one,
// where nobody answers any more. Of two that run, the one that the members hold goes
// on; the other one is the newcomer, and is told.
func (c *clones) check(ctx context.Context, other memberlist.Node) {
	at := addrPort(other)
	if c.conflict == nil || !c.begin() {
		return
	}
	defer c.end()
	m, err := parseMeta(other.Meta)
	if err != nil || m.nonce == c.nonce || !c.contacts.answers(c.self, at) {
		return
	}
	if c.held(ctx, m, at) {
		c.replica.log.Warn("another instance runs under this host's id; the members hold this one", "addr", at)
		return
	}
	if ctx.Err() == nil {
		c.replica.log.Error("another instance runs under this host's id", "addr", at)
		c.conflict(at)
	}
}

// begin lets one check work at a time.
func (c *clones) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checking {
		return false
	}
	c.checking = true
	return true
}

func (c *clones) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checking, c.heard = false, nil
}

// held reports whether the members hold this instance: asked, they answer to the
// address at which they have this host. Where there is no member the one that was
// started first goes on.
func (c *clones) held(ctx context.Context, other meta, at netip.AddrPort) bool {
	asked := c.others()
	if len(asked) == 0 {
		return c.inc < other.inc || c.inc == other.inc && c.at.Compare(at) < 0
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	c.listen(asked)
	for n := 0; ; n++ {
		if n%25 == 0 {
			c.replica.step(func(time.Time) {
				for _, id := range asked {
					c.replica.x.Ask(id)
				}
			})
		}
		if c.anyHeard() {
			return true
		}
		if !pace.Sleep(ctx, 20*time.Millisecond) {
			return false
		}
	}
}

// others are a few other members that are alive, at random.
func (c *clones) others() (out []discovery.HostID) {
	for _, p := range c.replica.peers() {
		if p.Seen && p.Status == discovery.StatusAlive {
			out = append(out, p.ID)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), askedWhose)]
}

// listen counts the members' messages from now on.
func (c *clones) listen(members []discovery.HostID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = map[discovery.HostID]uint64{}
	for _, id := range members {
		c.heard[id] = 0
	}
}

func (c *clones) anyHeard() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.heard {
		if n > 0 {
			return true
		}
	}
	return false
}
