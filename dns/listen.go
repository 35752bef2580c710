package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenKey is one address to be asked on: two networks may have the same
// gateway address, and are told apart by device.
type listenKey struct {
	device string
	addr   netip.AddrPort
	tcp    bool
	way    way
}

// way is by what way questions come to a listener.
type way uint8

const (
	direct     way = iota // to a gateway's own address
	redirected            // to another server, and redirected to a gateway port
	shared                // to Zone.Address: the asker may have other servers too
)

func (k listenKey) network() string {
	family := "4"
	if k.addr.Addr().Is6() {
		family = "6"
	}
	if k.tcp {
		return "tcp" + family
	}
	return "udp" + family
}

func (k listenKey) String() string {
	if k.device == "" {
		return fmt.Sprintf("%s %s", k.network()[:3], k.addr)
	}
	return fmt.Sprintf("%s %s on %s", k.network()[:3], k.addr, k.device)
}

func compareListenKeys(a, b listenKey) int {
	return cmp.Or(cmp.Compare(a.device, b.device), a.addr.Compare(b.addr), cmp.Compare(a.network(), b.network()))
}

// listener is one bound socket and all that it serves.
type listener struct {
	ifindex int // of the device when it was bound
	ctx     context.Context
	stop    context.CancelFunc
	close   func() error
}

func (l *listener) end() {
	l.stop()
	_ = l.close() // its error is that it was closed before
}

// listen makes the sockets those of the view. What is bound and still wanted is
// left alone; what failed is tried again. s.mu is held.
func (s *Server) listen() {
	wanted, devices, who := s.wanted(), openDevices(), &portOwners{}
	defer devices.close()
	for key, l := range s.listeners {
		if !wanted[key] || key.device != "" && devices.replaced(key.device, l.ifindex) {
			l.end()
			delete(s.listeners, key)
		}
	}
	for key := range s.failed {
		if !wanted[key] {
			delete(s.failed, key)
		}
	}
	for key := range wanted {
		if s.listeners[key] == nil {
			s.bind(key, devices, who)
		}
	}
}

func (s *Server) wanted() map[listenKey]bool {
	wanted := make(map[listenKey]bool)
	if s.closed {
		return wanted
	}
	v := s.view.Load()
	want := func(device string, a netip.Addr, port uint16, w way) {
		if a.IsValid() && port != 0 {
			addr := netip.AddrPortFrom(a, port)
			wanted[listenKey{device, addr, false, w}] = true
			wanted[listenKey{device, addr, true, w}] = true
		}
	}
	want("", v.address, s.cfg.Port, shared)
	for _, x := range v.networks {
		if x.Device == "" {
			continue
		}
		for _, a := range x.Gateways {
			want(x.Device, a, s.cfg.Port, direct)
		}
		for _, a := range x.Redirected {
			want(x.Device, a, s.cfg.RedirectPort, redirected)
		}
		// TCP has one listener at the shared address: a second one beside one
		// without a device is refused. Who completes a handshake has the address.
		if v.address.IsValid() {
			wanted[listenKey{x.Device, netip.AddrPortFrom(v.address, s.cfg.Port), false, shared}] = true
		}
	}
	return wanted
}

// bind opens one socket and serves it. A failure stops nobody's traffic: it is
// kept for Problems, and the next look tries again.
func (s *Server) bind(key listenKey, d devices, who *portOwners) {
	l, err := s.open(key, d)
	before := s.failed[key]
	if err != nil {
		s.failed[key] = err
		if before == nil || before.Error() != err.Error() {
			s.log.Log(s.ctx, severity(err), "dns not listening", "err", describe(key, err, who))
		}
		return
	}
	s.listeners[key] = l
	if before != nil {
		delete(s.failed, key)
		s.log.Info("dns listening", "addr", key.addr, "dev", key.device)
	}
}

// severity is the level at which a failure to listen is logged. That a device
// is not there is ordinary for the moment in which its network comes or goes;
// should it stay away, Problems says so.
func severity(err error) slog.Level {
	if errors.Is(err, unix.ENODEV) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func (s *Server) open(key listenKey, d devices) (*listener, error) {
	l := &listener{}
	if key.device != "" {
		var err error
		if l.ifindex, err = d.index(key.device); err != nil {
			return nil, err
		}
	}
	l.ctx, l.stop = context.WithCancel(s.ctx)
	cfg := net.ListenConfig{Control: key.control}
	cfg.SetMultipathTCP(false) // Go's default; one local hop has one path
	if key.tcp {
		sock, err := cfg.Listen(l.ctx, key.network(), key.addr.String())
		if err != nil {
			l.stop()
			return nil, err
		}
		l.close = sock.Close
		s.tasks.Go(func() { s.serveTCP(l.ctx, sock, key) })
		return l, nil
	}
	sock, err := cfg.ListenPacket(l.ctx, key.network(), key.addr.String())
	if err != nil {
		l.stop()
		return nil, err
	}
	l.close = sock.Close
	s.serveUDP(l.ctx, sock.(*net.UDPConn), key)
	return l, nil
}

// udpBuffer in bytes holds what comes in while no reader has a core: some 5000
// queries.
const udpBuffer = 4 << 20

// control sets the options that have to be there before the bind (socket(7),
// ip(7)): a device, so that networks with equal gateway addresses do not hear
// each other; FREEBIND, as the address may come up after us; REUSEADDR, to get
// along with a program that holds the wildcard address the same way. Not REUSEPORT:
// with it the kernel takes the first socket that fits, and not the one on the
// device that fits best.
func (k listenKey) control(_, _ string, c syscall.RawConn) error {
	var err error
	ctlErr := c.Control(func(raw uintptr) {
		fd := int(raw)
		err = errors.Join(
			option("SO_BINDTODEVICE", unix.BindToDevice(fd, k.device)), // "" is none
			option("SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
			option("IP_FREEBIND", freebind(fd, k.addr.Addr())),
		)
		if !k.tcp && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, udpBuffer) != nil {
			// Without CAP_NET_ADMIN as much as rmem_max allows.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer)
		}
	})
	return errors.Join(ctlErr, err)
}

func option(name string, err error) error {
	if err != nil {
		return fmt.Errorf("setsockopt %s: %w", name, err)
	}
	return nil
}

func freebind(fd int, a netip.Addr) error {
	if a.Is6() {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

// Problems returns one error for each address that is not listened on, sorted.
// It names the program that holds the address, where that can be found out.
func (s *Server) Problems() []error {
	s.mu.Lock()
	failed := maps.Clone(s.failed)
	s.mu.Unlock()
	var problems []error
	who := &portOwners{}
	for _, key := range slices.SortedFunc(maps.Keys(failed), compareListenKeys) {
		problems = append(problems, describe(key, failed[key], who))
	}
	return problems
}

// describe says what could not be listened on, why, and because of whom.
func describe(key listenKey, err error, who *portOwners) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("listen on %s: %w", key, unix.ENODEV)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		if name := who.name(key); name != "" {
			return fmt.Errorf("listen on %s: %w: held by %s", key, unix.EADDRINUSE, name)
		}
		return fmt.Errorf("listen on %s: %w", key, unix.EADDRINUSE)
	}
	return fmt.Errorf("listen on %s: %w", key, err)
}
