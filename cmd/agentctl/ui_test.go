package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"
)

// serving is agentctl ui that runs, with what it printed.
type serving struct {
	link   string
	errs   chan string // stderr and the exit code, once stop was called
	stop   context.CancelFunc
	client *http.Client
}

func startUI(t *testing.T, args ...string) *serving {
	t.Helper()
	ag, err := startAgent(newCluster())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ag.remove)
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	s := &serving{stop: stop, errs: make(chan string, 1)}
	var stderr strings.Builder
	go func() {
		a := &app{in: strings.NewReader(""), out: in, err: &stderr, env: socketOnly(ag.socket), poll: time.Second}
		code := a.execute(ctx, append([]string{"ui"}, args...))
		in.Close()
		s.errs <- stderr.String() + map[int]string{0: "exit 0"}[code]
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, <-s.errs)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.link, s.client = strings.TrimSpace(line), &http.Client{Jar: jar}
	return s
}

func (s *serving) get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := s.client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestUIServesThePageUntilItIsInterrupted(t *testing.T) {
	s := startUI(t, "--no-open")
	root, token, ok := strings.Cut(s.link, "?token=")
	if !ok || !strings.HasPrefix(root, "http://127.0.0.1:") || len(token) < 20 {
		t.Fatalf("link %s", s.link)
	}
	if code, text := s.get(t, root+"v1/members"); code != http.StatusForbidden {
		t.Errorf("before the link was opened: %d %s", code, text)
	}
	if code, text := s.get(t, s.link); code != http.StatusOK {
		t.Errorf("the link: %d %s", code, text)
	}
	if code, text := s.get(t, root+"v1/members"); code != http.StatusOK || !strings.Contains(text, `"host2"`) {
		t.Errorf("members: %d %s", code, text)
	}
	// A stream that is open does not hold it up.
	res, err := s.client.Get(root + "v1/events?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	s.stop()
	select {
	case said := <-s.errs:
		if said != "exit 0" {
			t.Errorf("interrupted, it says: %s", said)
		}
	case <-time.After(10 * time.Second):
		t.Error("interrupted, it goes on")
	}
}

func TestUIWarnsWhereTheTokenGoesInClear(t *testing.T) {
	s := startUI(t, "--no-open", "--listen", "0.0.0.0:0")
	if !strings.HasPrefix(s.link, "http://localhost:") {
		t.Errorf("link %s", s.link)
	}
	if code, text := s.get(t, s.link); code != http.StatusOK {
		t.Errorf("the link: %d %s", code, text)
	}
	s.stop()
	if said := <-s.errs; !strings.Contains(said, "agentctl: warning: ") || !strings.Contains(said, "is no loopback address: the token and the page go over the network in clear") {
		t.Errorf("it says: %s", said)
	}
}
