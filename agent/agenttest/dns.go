package agenttest

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Domain is the default domain of names.
const Domain = "weft.internal"

// FQDN is the full name of an endpoint, which is never forwarded.
func FQDN(name, network string) string { return name + "." + network + "." + Domain + "." }

// Reply is what a DNS server said to a question for IPv4 addresses.
type Reply struct {
	Rcode string // NOERROR, NXDOMAIN, SERVFAIL, …
	Addrs []netip.Addr
}

// Resolver asks one DNS server from inside a sandbox, over one socket: a look
// costs no process, so that times can be measured. Not for concurrent use.
type Resolver struct {
	conn *net.UDPConn
	id   uint16
}

// Resolver returns a resolver that asks the network's DNS server.
func (s *Sandbox) Resolver(server netip.Addr) *Resolver {
	t := s.Host.lab.t
	t.Helper()
	conn, err := s.NS.DialUDP(netip.AddrPortFrom(server, 53))
	if err != nil {
		t.Fatalf("%s: resolver %v: %v", s.NS, server, err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Resolver{conn: conn}
}

// Ask sends one question for the addresses of a fully qualified name and waits
// for its answer, at most for timeout. It does not repeat the question.
func (r *Resolver) Ask(name string, timeout time.Duration) (Reply, error) {
	r.id++
	question, err := query(r.id, name)
	if err != nil {
		return Reply{}, err
	}
	r.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := r.conn.Write(question); err != nil {
		return Reply{}, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := r.conn.Read(buf)
		if err != nil {
			return Reply{}, err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			return Reply{}, fmt.Errorf("answer to %s: %w", name, err)
		}
		if m.ID == r.id { // else it belongs to a question that was given up
			return reply(m), nil
		}
	}
}

func query(id uint16, name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

func reply(m dnsmessage.Message) Reply {
	r := Reply{Rcode: rcode(m.RCode)}
	for _, a := range m.Answers {
		if body, ok := a.Body.(*dnsmessage.AResource); ok {
			r.Addrs = append(r.Addrs, netip.AddrFrom4(body.A))
		}
	}
	slices.SortFunc(r.Addrs, netip.Addr.Compare)
	return r
}

func rcode(c dnsmessage.RCode) string {
	names := map[dnsmessage.RCode]string{
		dnsmessage.RCodeSuccess:       "NOERROR",
		dnsmessage.RCodeFormatError:   "FORMERR",
		dnsmessage.RCodeServerFailure: "SERVFAIL",
		dnsmessage.RCodeNameError:     "NXDOMAIN",
		dnsmessage.RCodeRefused:       "REFUSED",
	}
	if n, ok := names[c]; ok {
		return n
	}
	return c.String()
}

// Wants returns a check for Eventually: the name has exactly these addresses;
// none at all means NXDOMAIN.
func (r *Resolver) Wants(name string, addrs ...netip.Addr) func() error {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return func() error {
		got, err := r.Ask(name, 500*time.Millisecond)
		switch {
		case err != nil:
			return err
		case len(addrs) == 0 && got.Rcode != "NXDOMAIN":
			return fmt.Errorf("%s: want NXDOMAIN, got %s %v", name, got.Rcode, got.Addrs)
		case !slices.Equal(got.Addrs, addrs):
			return fmt.Errorf("%s: want %v, got %s %v", name, addrs, got.Rcode, got.Addrs)
		}
		return nil
	}
}

// Lacks returns a check for Eventually: no address is given for the name. An
// agent that does not know everything yet says SERVFAIL to a name that it does
// not know, never NXDOMAIN.
func (r *Resolver) Lacks(name string) func() error {
	return func() error {
		got, err := r.Ask(name, 500*time.Millisecond)
		if err == nil && len(got.Addrs) > 0 {
			err = fmt.Errorf("%s: still %v", name, got.Addrs)
		}
		return err
	}
}

// DNSLoad asks for names, one after the other, until it is stopped.
type DNSLoad struct {
	stop chan struct{}
	wg   sync.WaitGroup
	seen map[string]int // by rcode; "timeout" when there was no answer
}

// loadEvery is the pause between two questions of a load.
const loadEvery = 5 * time.Millisecond

// Load starts a load of questions for the names.
func (r *Resolver) Load(names ...string) *DNSLoad {
	l := &DNSLoad{stop: make(chan struct{}), seen: map[string]int{}}
	l.wg.Go(func() {
		tick := time.NewTicker(loadEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			got, err := r.Ask(names[i%len(names)], 500*time.Millisecond)
			switch {
			case err != nil:
				l.seen["no answer"]++
			case got.Rcode == "NOERROR" && len(got.Addrs) == 0:
				l.seen["no address"]++
			default:
				l.seen[got.Rcode]++
			}
		}
	})
	return l
}

// Stop ends the load and returns how many answers of each kind there were: an
// rcode, "no address" or "no answer".
func (l *DNSLoad) Stop() map[string]int {
	close(l.stop)
	l.wg.Wait()
	return l.seen
}

// Counts writes the answers of a load in a fixed order.
func Counts(seen map[string]int) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%s %d  ", k, seen[k])
	}
	return strings.TrimSpace(b.String())
}
