package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/overlay"
)

// Bulk sends as TCP does in the probe network of this host: one packet that the kernel
// or the device cuts into segments, with checksums that they fill in. What passes as a
// single small frame may be damaged there.
type Bulk interface {
	// Send sends so many bytes under a number, in inner packets of segment bytes at most.
	Send(to overlay.MAC, number uint32, size, segment int) error
	// Receive returns how many bytes came in one packet. It returns ctx's error when ctx
	// ends.
	Receive(ctx context.Context, buf []byte) (from overlay.MAC, number uint32, size int, err error)
	Close() error
}

const (
	bulkSize   = 60_000
	bulkTries  = 3
	bulkPeriod = 10 * time.Minute
	bulkShare  = 5 * time.Minute  // so often a host sends bulk to any member
	bulkFirst  = 8                // members to which it is sent at once
	bulkAgain  = 30 * time.Second // while it fails
	bulkKept   = 64               // that came from others
	bulkAwait  = 400 * time.Millisecond
)

// bulkKind begins the body of a Call that asks a member how much of a bulk came. 0x71
// is a person's question (agent/peers).
const bulkKind = 0x72

// A bulk question is the kind and the number; its answer is a format and bytes.
const (
	bulkQuestionSize = 1 + 4
	bulkAnswerSize   = 1 + 4
	bulkFormat       = 1
)

// bulks sends bulk and counts what comes of others'.
type bulks struct {
	open  func() (Bulk, error) // nil: this host sends none
	share *rate.Limiter

	mu     sync.Mutex // guards what follows
	socket Bulk       // nil: the device is not there
	came   []bulkCame // the oldest first
}

// bulkCame is what came of one bulk.
type bulkCame struct {
	from   overlay.MAC
	number uint32
	size   int
}

func newBulks(open func() (Bulk, error)) *bulks {
	return &bulks{open: open, share: rate.NewLimiter(rate.Every(bulkShare), bulkFirst)}
}

// run receives until ctx ends.
func (b *bulks) run(ctx context.Context) error {
	for b.open != nil && ctx.Err() == nil {
		socket, err := b.open()
		if err == nil {
			b.use(socket)
			err = b.receive(ctx, socket)
			b.use(nil)
			_ = socket.Close()
		}
		if err != nil {
			pace.Sleep(ctx, again)
		}
	}
	return nil
}

func (b *bulks) use(s Bulk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.socket = s
}

func (b *bulks) receive(ctx context.Context, socket Bulk) error {
	buf := make([]byte, 1<<16+128)
	for {
		from, number, size, err := socket.Receive(ctx, buf)
		if err != nil {
			return err
		}
		b.note(from, number, size)
	}
}

func (b *bulks) note(from overlay.MAC, number uint32, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.came, func(c bulkCame) bool { return c.from == from && c.number == number })
	if i < 0 {
		if len(b.came) == bulkKept {
			b.came = slices.Delete(b.came, 0, 1)
		}
		b.came = append(b.came, bulkCame{from: from, number: number})
		i = len(b.came) - 1
	}
	b.came[i].size = min(b.came[i].size+size, bulkSize)
}

// answer says how much of a member's bulk came.
func (b *bulks) answer(from discovery.HostID, question []byte) []byte {
	mac, number := plan.ProbeMAC(from), binary.BigEndian.Uint32(question[1:])
	b.mu.Lock()
	defer b.mu.Unlock()
	size := 0
	for _, c := range b.came {
		if c.from == mac && c.number == number {
			size = c.size
		}
	}
	return binary.BigEndian.AppendUint32([]byte{bulkFormat}, uint32(size))
}

func parseBulkAnswer(b []byte) (size int, err error) {
	if len(b) != bulkAnswerSize || b[0] != bulkFormat {
		return 0, errOlder
	}
	return int(binary.BigEndian.Uint32(b[1:])), nil
}

// send sends one bulk. It fails while the device is not there.
func (b *bulks) send(to discovery.HostID, number uint32, segment int) error {
	b.mu.Lock()
	socket := b.socket
	b.mu.Unlock()
	if socket == nil {
		return errors.New("the device is not there")
	}
	return socket.Send(plan.ProbeMAC(to), number, bulkSize, segment)
}

// bulkState is what is known of bulk to one member.
type bulkState struct {
	state     State
	at        time.Time // of the last try
	why, hint string
}

// dueBulk reports whether it is time to prove bulk to a member, of so many.
func (p *prober) dueBulk(to peer, now time.Time, members int) bool {
	s := p.records.bulkOf(to.id)
	if s.state == Failing {
		return now.Sub(s.at) >= bulkAgain
	}
	return now.Sub(s.at) >= max(bulkPeriod, bulkShare*time.Duration(members)) && p.bulks.share.Allow()
}

// bulk finds out whether bulk gets to a member to which single packets of the full size
// do.
func (p *prober) bulk(ctx context.Context, to peer, dev string) {
	segment := p.records.sizedOf(to.id).passes - p.overhead
	if segment < LeastMTU-p.overhead {
		return
	}
	most := 0
	for range bulkTries {
		number := rand.Uint32()
		if p.bulks.send(to.id, number, segment) != nil || !pace.Sleep(ctx, bulkAwait) {
			return
		}
		size, err := p.askBulk(ctx, to.id, number)
		if err != nil {
			return // nothing is known: it runs an older release, or is gone
		}
		if most = max(most, size); most >= bulkSize/2 {
			break
		}
	}
	s := bulkState{state: OK, at: time.Now()}
	if most < bulkSize/2 {
		s.state = Failing
		s.why = fmt.Sprintf("of %d bytes that %s sends to %s as TCP does, %d come, and single packets all do: a device fills in wrong checksums", bulkSize, p.self.name, to.name, most)
		s.hint = fmt.Sprintf("ethtool -K %s tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off tx-checksum-ip-generic off # on %s", dev, p.self.name)
	}
	before := p.records.bulkOf(to.id)
	p.records.with(to.id, func(rec *record) { rec.bulk = s })
	switch {
	case s.state == before.state:
	case s.state == Failing:
		p.tell.failing(to, provenBulk, s.why, s.hint)
	case before.state == Failing:
		p.tell.ok(to, provenBulk, "many packets at once pass to "+to.name+" again")
	}
}

// askBulk asks a member how much of a bulk came.
func (p *prober) askBulk(ctx context.Context, to discovery.HostID, number uint32) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answer, err := p.call(ctx, to, binary.BigEndian.AppendUint32([]byte{bulkKind}, number))
	if err != nil {
		return 0, err
	}
	return parseBulkAnswer(answer)
}
