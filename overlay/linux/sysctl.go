package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// procPath is the file of a setting, sysctl(8): dots and slashes change places.
func procPath(name string) string {
	return "/proc/sys/" + strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// readSysctl reads a setting in the namespace of the calling thread.
func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(procPath(name))
	return string(bytes.TrimSpace(b)), err
}

func writeSysctl(name, value string) error {
	f, err := os.OpenFile(procPath(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// settings are those of sysctl(8).
type settings struct {
	host, fabric *space
	log          *slog.Logger

	mu sync.Mutex // guards the list of what the host's settings were, in the alias of the fabric's lo
}

// apply writes settings, those of one namespace on one visit. Nothing takes a
// setting of a device away but the device itself.
func (k *settings) apply(objects []overlay.Object, deleting bool) []error {
	if deleting {
		return nil
	}
	var errs []error
	for _, place := range []overlay.Place{overlay.Host, overlay.Fabric} {
		var here []overlay.Sysctl
		for _, o := range objects {
			if s := o.(overlay.Sysctl); s.Place == place {
				here = append(here, s)
			}
		}
		if len(here) > 0 {
			errs = append(errs, k.write(place, here)...)
		}
	}
	return errs
}

func (k *settings) write(place overlay.Place, settings []overlay.Sysctl) (errs []error) {
	var old []overlay.Sysctl
	fail := func(s overlay.Sysctl, err error) {
		errs = append(errs, &overlay.ObjectError{Object: s, Err: err})
	}
	ns := k.host.ns
	if place == overlay.Fabric {
		ns = k.fabric.ns
	}
	err := netns.Within(ns, func() error {
		for _, s := range settings {
			before, err := readSysctl(s.Name)
			if errors.Is(err, fs.ErrNotExist) && s.Value == absentValue(s.Name) {
				continue
			}
			if err == nil && before != s.Value {
				err = writeSysctl(s.Name, s.Value)
				old = append(old, overlay.Sysctl{Place: place, Name: s.Name, Value: before})
			}
			if err != nil {
				fail(s, err)
			}
		}
		return nil
	})
	if err == nil {
		err = k.remember(old)
	}
	if err != nil {
		for _, s := range settings {
			fail(s, err)
		}
	}
	return errs
}

// undoPrefix begins the alias of the fabric's loopback device, where we keep
// what the host's own settings were: it outlives the agent and, as they do, not
// the next boot.
const undoPrefix = "weft v1 undo "

// remember keeps the first value of each setting that outlives our devices.
func (k *settings) remember(old []overlay.Sysctl) error {
	var foreign []overlay.Sysctl
	for _, s := range old {
		if s.Place == overlay.Host && !k.ofGateway(s) {
			foreign = append(foreign, s)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, err := k.remembered()
	if err != nil {
		return err
	}
	for _, s := range foreign {
		if !hasName(known, s.Name) {
			known = append(known, s)
		}
	}
	return k.setUndo(known)
}

// ofGateway reports whether a setting goes with a device of ours.
func (k *settings) ofGateway(s overlay.Sysctl) bool {
	if !ours(s.ConfDevice()) {
		return false
	}
	l, err := k.host.link(s.ConfDevice())
	return err == nil && isGateway(l)
}

func hasName(all []overlay.Sysctl, name string) bool {
	for _, s := range all {
		if s.Name == name {
			return true
		}
	}
	return false
}

// mark makes the fabric known as one, also to other agents of the machine: its list
// is there from the start, even if it has nothing in it.
func (k *settings) mark() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, err := k.remembered()
	if err != nil || known != nil {
		return err
	}
	return k.setUndo(nil)
}

// remembered returns what the host's own settings were before us.
func (k *settings) remembered() ([]overlay.Sysctl, error) {
	lo, err := k.fabric.link("lo")
	if err != nil {
		return nil, err
	}
	var all []overlay.Sysctl
	rest, _ := strings.CutPrefix(lo.Attrs().Alias, undoPrefix)
	for field := range strings.FieldsSeq(rest) {
		if name, value, ok := strings.Cut(field, "="); ok {
			all = append(all, overlay.Sysctl{Place: overlay.Host, Name: name, Value: value})
		}
	}
	return all, nil
}

func (k *settings) setUndo(all []overlay.Sysctl) error {
	fields := make([]string, len(all))
	for i, s := range all {
		fields[i] = s.Name + "=" + s.Value
	}
	alias := undoPrefix + strings.Join(fields, " ")
	err := k.fabric.do(func(h *netlink.Handle) error { return h.LinkSetAlias(at(loopback), alias) })
	return wrap(err, "remember the host's settings")
}

// loopback is the number of lo in every namespace (LOOPBACK_IFINDEX).
const loopback = 1

// undo takes back what we set on the host.
func (k *settings) undo() error {
	all, err := k.remembered()
	if err != nil {
		return err
	}
	return netns.Within(k.host.ns, func() error {
		everywhere, err := readSysctl("net.ipv4.ip_forward")
		if err != nil {
			return err
		}
		var errs []error
		for _, s := range all {
			// We never write it: another program, Docker say, has it forward through
			// every device meanwhile, those that we began with among them.
			if everywhere == "1" && strings.HasPrefix(s.Name, "net.ipv4.") && strings.HasSuffix(s.Name, ".forwarding") {
				continue
			}
			if err := writeSysctl(s.Name, s.Value); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// neighbourLimits are what a host with thousands of local endpoints needs for
// their dynamic entries. The table is one for all namespaces (arp(7)), so the
// limits are only raised and never taken back.
var neighbourLimits = [3]int{4096, 8192, 16384}

// raiseNeighbourLimits does what it can: outside the first network namespace
// the files are absent.
func (k *settings) raiseNeighbourLimits() {
	err := netns.Within(k.host.ns, func() error {
		for _, family := range []string{"ipv4", "ipv6"} {
			for i := len(neighbourLimits); i > 0; i-- {
				name := fmt.Sprintf("net.%s.neigh.default.gc_thresh%d", family, i)
				if err := raise(name, neighbourLimits[i-1]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		k.log.Warn("neighbour table limits not raised", "err", err)
	}
}

func raise(name string, limit int) error {
	value, err := readSysctl(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if have, _ := strconv.Atoi(value); err != nil || have >= limit {
		return err
	}
	return writeSysctl(name, strconv.Itoa(limit))
}
