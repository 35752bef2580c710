package membership

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// ErrCloned is wrapped by every ClonedError.
var ErrCloned = errors.New("this host runs elsewhere already")

// ClonedError says that another instance of this host goes on: this data directory is
// a copy, or was moved while its host still ran. It wraps ErrCloned.
type ClonedError struct {
	Name  string
	Other netip.AddrPort // where that one answers
	Dir   string         // the data directory of this one
}

func (e *ClonedError) Error() string {
	return fmt.Sprintf("%v: host %s is at %s, and this data directory is a copy of its own", ErrCloned, e.Name, e.Other)
}

// Hint is what to type where this is the copy.
func (e *ClonedError) Hint() string {
	return "rm -r " + e.Dir + " # on this host, if it is the copy\nagentctl join ADDRESS --token-file FILE # once agentd runs again"
}

// Unwrap returns ErrCloned.
func (e *ClonedError) Unwrap() error { return ErrCloned }

// Clones tells this instance of the host from another one.
type Clones struct {
	name      string
	self      discovery.HostID
	dir       string
	hosts     *Registry
	records   Records
	directory Directory
	told      chan netip.AddrPort // where another instance goes on
}

// Conflict says that another instance of this host runs at an address, and that it is
// the one that the members hold: this one ends.
func (c *Clones) Conflict(other netip.AddrPort) {
	select {
	case c.told <- other:
	default: // said already
	}
}

// Watch returns a ClonedError when another instance of this host goes on, nil when ctx
// ends.
func (c *Clones) Watch(ctx context.Context) error {
	select {
	case at := <-c.told:
		return c.clonedAt(at)
	case <-ctx.Done():
		return nil
	}
}

// storePatience is how long a start waits for the pool's word on where this host was.
const storePatience = time.Second

// CheckAlone returns a ClonedError when another instance of this host answers where
// this host was last, as its own copy or the pool has it. It is called before this one
// says anything: who comes second is the newcomer.
func (c *Clones) CheckAlone(ctx context.Context) error {
	hosts, _ := c.hosts.snapshot()
	last := []netip.AddrPort{hosts[c.self].Gossip}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if all, err := c.records.Hosts(ctx); err == nil {
		for _, h := range all {
			if h.ID == c.self && h.Gossip != last[0] {
				last = append(last, h.Gossip)
			}
		}
	}
	for _, at := range last {
		if at.IsValid() && c.directory.Running(at) {
			return c.clonedAt(at)
		}
	}
	return nil
}

func (c *Clones) clonedAt(at netip.AddrPort) error {
	return &ClonedError{Name: c.name, Other: at, Dir: c.dir}
}

// GoneSaid notes that a member says that this host was taken out. The pool is asked
// whether it was.
func (m *Membership) GoneSaid(by string) {
	m.mu.Lock()
	m.goneSaid = by
	m.mu.Unlock()
	m.Hosts.wake.Set()
}

// checkRemoved asks the pool, when a member said it, whether this host was taken out.
func (m *Membership) checkRemoved(ctx context.Context) {
	m.mu.Lock()
	by := m.goneSaid
	m.goneSaid = ""
	m.mu.Unlock()
	if by == "" {
		return
	}
	gone, ok := errors.AsType[*pool.ForgottenError](m.records.Removed(ctx, m.cfg.Host.ID))
	if !ok {
		m.cfg.Log.Debug("a member says that this host was taken out, and the pool does not", "member", by)
		return
	}
	m.Forget("agentctl leave --force by " + gone.By)
	m.directory.Forget([]discovery.HostID{m.cfg.Host.ID})
}
