package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/page"
)

func newUI(a *app) *cobra.Command {
	var listen string
	var noOpen bool
	cmd := &cobra.Command{
		Use:   "ui [--listen HOST:PORT] [--no-open]",
		Short: "Show the cluster in a browser",
		Long: `Show the cluster in a browser: hosts, the tunnel between them, networks,
endpoints, events, checks, and a form for why. The page only reads.

It is served by this command until it is interrupted, and its link opens it in
one browser, once. Where this host has a display, its browser is started. From
another host, forward the port: ssh -L 8080:127.0.0.1:8080 HOST.`,
		Example: "  agentctl ui --listen 127.0.0.1:8080 --no-open",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, _, err := net.SplitHostPort(listen)
			if err != nil {
				return misuse(cmd, "--listen %s: want an address and a port, such as 127.0.0.1:8080", listen)
			}
			// Whether it answers is known before there is a page that says so.
			if err := a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				_, err := agent.Status(ctx)
				return err
			}); err != nil {
				return err
			}
			l, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return api.Errorf(api.KindFailed, "ui: %v", err).WithHint("agentctl ui --help # without --listen a port is taken that is free")
			}
			return a.serveUI(cmd.Context(), l, host, noOpen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "serve it at this `HOST:PORT`; port 0 is one that is free")
	cmd.Flags().BoolVar(&noOpen, "no-open", false, "start no browser")
	return cmd
}

// serveUI serves the page until ctx ends.
func (a *app) serveUI(ctx context.Context, l net.Listener, host string, noOpen bool) error {
	at := l.Addr().(*net.TCPAddr)
	name := host
	if addr, err := netip.ParseAddr(host); err == nil || host == "" {
		name = ""
		host = at.IP.String()
		if addr.IsUnspecified() || !addr.IsValid() {
			host = "localhost" // of all addresses the one that is here
		}
	}
	p := page.New(a.agent(), name)
	link := fmt.Sprintf("http://%s%s", net.JoinHostPort(host, fmt.Sprint(at.Port)), p.Link())
	if !at.IP.IsLoopback() {
		a.notice("warning", "%s is no loopback address: the token and the page go over the network in clear", l.Addr())
	}
	fmt.Fprintln(a.out, link)
	if !noOpen {
		defer a.browse(link)()
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return api.Errorf(api.KindFailed, "ui: %v", err)
	}
	return nil
}

// browse opens the link in the browser of who sits here, if somebody does. The browser
// is handed a file that leads there: every user of the host sees arguments of programs,
// and one who is quicker than the browser would have the token.
func (a *app) browse(link string) (forget func()) {
	if strings.TrimSpace(a.env("DISPLAY")+a.env("WAYLAND_DISPLAY")) == "" {
		return func() {}
	}
	program, err := exec.LookPath("xdg-open")
	if err != nil {
		return func() {}
	}
	f, err := os.CreateTemp(a.env("XDG_RUNTIME_DIR"), "weft-*.html") // for its owner alone
	if err != nil {
		return func() {}
	}
	_, err = fmt.Fprintf(f, `<!doctype html><meta http-equiv="refresh" content="0;url=%s"><title>weft</title>`, html.EscapeString(link))
	if err = errors.Join(err, f.Close()); err == nil {
		cmd := exec.Command(program, f.Name())
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what interrupts this command does not end the browser
		if err = cmd.Start(); err == nil {
			go func() { _ = cmd.Wait() }() // how the browser ends is its own business
		}
	}
	if err != nil {
		a.notice("warning", "no browser was started: %v", err)
	}
	return func() { _ = os.Remove(f.Name()) }
}
