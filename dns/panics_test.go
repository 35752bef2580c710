package dns

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// Wherever a question panics, who asked gets SERVFAIL, the log one line of many alike,
// and everybody else an answer.
func TestPanicIsTheQuestionsAlone(t *testing.T) {
	upstream := with(t, "203.0.113.1")
	for name, breaks := range map[string]func(s *site) (mend func()){
		"in the shared race": func(s *site) func() {
			own := s.remote.own
			s.remote.own = func(netip.AddrPort) bool { panic("race") }
			return func() { s.remote.own = own }
		},
		"asking one upstream": func(s *site) func() {
			u := s.remote.resolvers.current()[0]
			dial := u.dial
			u.dial = func(context.Context, string, string) (net.Conn, error) { panic("dial") }
			return func() { u.dial = dial }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := serve(t, Config{Upstreams: []netip.AddrPort{upstream.addr}, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))})
			mend := breaks(s)
			for range 3 {
				if m := exchange(t, s.dial(t, "udp"), "broken.example.com", 5*time.Second); rcode(m) != "SERVFAIL" {
					t.Errorf("got %s, want SERVFAIL", rcode(m))
				}
			}
			mend()
			if m := exchange(t, s.dial(t, "udp"), "whole.example.com", 5*time.Second); rcode(m) != "NOERROR" {
				t.Errorf("afterwards: %s", rcode(m))
			}
			if lines := strings.Count(log.String(), "a question panicked"); lines != 1 {
				t.Errorf("%d lines in the log, want 1: %s", lines, log.String())
			}
		})
	}
}

// A question over which the server itself panics is answered as well.
func TestPanicOverAPacket(t *testing.T) {
	s := serve(t, Config{})
	packet, err := new(miekg.Msg).SetQuestion("web.", miekg.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	v := s.view.Swap(nil) // where names are looked up is gone
	reply, upstream := s.handle(packet, source{addr: s.client}, listenKey{}, nil)
	s.view.Store(v)
	m := new(miekg.Msg)
	if err := m.Unpack(reply); err != nil || m.Rcode != miekg.RcodeServerFailure || upstream != nil {
		t.Errorf("got %v (%v), want SERVFAIL", m, err)
	}
}
