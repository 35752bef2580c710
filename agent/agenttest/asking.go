package agenttest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// The servers of the tests' world: the one that the hosts' resolv.conf names,
// and another. Both know Outside, and each has its own address for it.
var (
	NamedServer = netip.MustParseAddr("198.51.100.1")
	ByNamed     = netip.MustParseAddr("203.0.113.1")
	OtherServer = netip.MustParseAddr("192.0.2.254")
	ByOther     = netip.MustParseAddr("203.0.113.2")
)

// Outside is a name of the world's.
const Outside = "outside.test."

// AskingCluster is hosts whose resolver is NamedServer, with flags for all
// agents.
func AskingCluster(t testing.TB, hosts int, flags ...string) *Lab {
	t.Helper()
	Need(t, "dig")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search corp.test\nnameserver "+NamedServer.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := NewLab(t, Config{Hosts: hosts})
	for _, h := range l.Hosts {
		h.More = append(slices.Clone(flags), "--dns-resolv-conf", conf)
		h.Start()
	}
	l.Host(1).Init()
	for _, h := range l.Hosts[1:] {
		h.Join(l.Host(1))
	}
	for _, h := range l.Hosts {
		h.AwaitMembers(hosts)
	}
	AnswerOutside(t, l)
	return l
}

// AnswerOutside runs the servers of the tests' world in a lab.
func AnswerOutside(t testing.TB, l *Lab) {
	t.Helper()
	answerOutside(t, l, NamedServer, ByNamed)
	answerOutside(t, l, OtherServer, ByOther)
}

// answerOutside serves outside.test and every name in corp.test, and nothing
// else, in the lab's internet.
func answerOutside(t testing.TB, l *Lab, at, with netip.Addr) {
	t.Helper()
	conn, err := l.Internet.ListenUDP(netip.AddrPortFrom(at, 53))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	t.Cleanup(func() { conn.Close(); done.Wait() })
	done.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var m dnsmessage.Message
			if err != nil || m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			asked := m.Questions[0]
			switch {
			case asked.Name.String() != Outside && !strings.HasSuffix(asked.Name.String(), ".corp.test."):
				m.RCode = dnsmessage.RCodeNameError
			case asked.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 1},
					Body: &dnsmessage.AResource{A: with.As4()}}}
			}
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
		}
	})
}
