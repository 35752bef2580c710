package linux

import (
	"context"
	"hash/maphash"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay/linux/netns"
)

// look is how often that is looked at of which the kernel gives no notice.
const look = 500 * time.Millisecond

// quiet watches what changes without notice: most settings of sysctl(8), and what is
// mounted. It looks at those devices alone whose settings are ours, so that it costs
// the same however many a host has.
type quiet struct {
	host, fabric *space
	path         string // of the fabric

	mu       sync.Mutex // guards the following
	gateways []int      // indexes of devices in the host
	uplinks  []int      // likewise
	tunnels  []int      // and in the fabric
	seed     maphash.Seed
	listed   uint64     // the sum as the last List began
	changed  bool       // something was put since then, or other devices are looked at
	files    []*os.File // of fabricSettings; nil: not there
}

// begin notes what a List is about to read.
func (q *quiet) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.listed, q.changed = q.sum(), false
}

// put notes that we change something: what a List saw is so no more, and somebody may
// change it back before the next look.
func (q *quiet) put() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed = true
}

// watch names the devices to look at.
func (q *quiet) watch(gateways, tunnels []int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed = q.changed || !slices.Equal(q.gateways, gateways) || !slices.Equal(q.tunnels, tunnels)
	q.gateways, q.tunnels = gateways, tunnels
}

func (q *quiet) watchUplinks(names []string) {
	var all []int
	for _, name := range names {
		if i, err := q.host.number(name); err == nil {
			all = append(all, i)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed = q.changed || !slices.Equal(q.uplinks, all)
	q.uplinks = all
}

// run signals until ctx ends that something is not as the last List saw it.
func (q *quiet) run(ctx context.Context, signal func()) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if q.differs() {
			signal()
		}
	}
}

func (q *quiet) differs() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed || q.sum() != q.listed
}

// sum is another number when something has changed. The caller holds mu.
func (q *quiet) sum() uint64 {
	var h maphash.Hash
	h.SetSeed(q.seed)
	conf := func(s *space, index int) {
		_ = s.change(func(r *requests) error {
			d, err := r.deviceAt(index)
			if err == nil { // of one that went there is a notice
				h.Write(d.conf4)
				h.Write(d.conf6)
				h.WriteByte(d.genMode)
			}
			return err
		})
	}
	for _, i := range slices.Concat(q.gateways, q.uplinks) {
		conf(q.host, i)
	}
	for _, i := range q.tunnels {
		conf(q.fabric, i)
	}
	q.open()
	buf := make([]byte, 64)
	for _, f := range q.files {
		if f != nil {
			n, _ := f.ReadAt(buf, 0)
			h.Write(buf[:max(n, 0)])
		}
	}
	if netns.Named(q.path, q.fabric.ns) {
		h.WriteByte(1)
	}
	return h.Sum64()
}

// open opens the settings of the fabric: an open file of /proc/sys is read from
// anywhere. Those of br_netfilter are there once somebody loads it.
func (q *quiet) open() {
	if q.files != nil && !slices.Contains(q.files, nil) {
		return
	}
	if _, err := os.Stat("/proc/sys/net/bridge"); q.files != nil && err != nil {
		return
	}
	q.closeFiles()
	q.files = make([]*os.File, len(fabricSettings))
	_ = netns.Within(q.fabric.ns, func() error {
		for i, name := range fabricSettings {
			q.files[i], _ = os.Open(procPath(name))
		}
		return nil
	})
}

func (q *quiet) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closeFiles()
}

func (q *quiet) closeFiles() {
	for _, f := range q.files {
		if f != nil {
			f.Close()
		}
	}
	q.files = nil
}

// concerns reports whether a notification says that the settings of a device have
// changed that we look at, or those of all: whoever writes net.ipv4.ip_forward writes
// it for every one (linux/netconf.h).
func (q *quiet) concerns(m syscall.NetlinkMessage) bool {
	const (
		family  = 4 // bytes of a struct netconfmsg, with its padding
		ifindex = 1
		all     = 1<<32 - 1
	)
	if m.Header.Type != unix.RTM_NEWNETCONF {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for typ, data := range attributes(m.Data, family) {
		if typ != ifindex {
			continue
		}
		index := asU32(data)
		return index == all || slices.Contains(q.gateways, int(index)) || slices.Contains(q.uplinks, int(index))
	}
	return false
}
