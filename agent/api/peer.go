package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// public is what every user of this host may read, at either socket: how well this
// host and its cluster work. It tells nobody's labels and no key, and changes nothing.
var public = map[string]bool{
	"/healthz":         true,
	"/readyz":          true,
	"/v1/openapi.yaml": true,
	"/v1/status":       true,
	"/v1/version":      true,
	"/v1/members":      true,
	"/v1/verify":       true,
	"/v1/metrics":      true,
	"/v1/events":       true,
}

// restrict lets everyone read what is public, and only the peers that may
// command the agent do the rest.
func restrict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if p, _ := peerOf(r.Context()); !p.trusted && !(reads && public[r.URL.Path]) {
			fail(w, p.refusal(r.Method+" "+r.URL.Path))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refusal says why the peer may not do a call. Root has chosen the wrong socket.
func (p peer) refusal(call string) *Error {
	if p.reads && p.uid == 0 {
		return Errorf(KindPermission, "%s: not permitted at this socket, which is for reading", call).WithHint("agentctl status # without --socket it asks at %s", DefaultSocket)
	}
	return notPermitted(call + ": not permitted")
}

// notPermitted is the error of whoever may not use the socket.
func notPermitted(message string) *Error {
	return Errorf(KindPermission, "%s", message).WithHint("sudo usermod -aG %s USER # or run the command as root", Group)
}

// peer is the process at the other end of a connection, as the kernel knew it
// when it connected (SO_PEERCRED, unix(7)).
type peer struct {
	uid, gid uint32
	pid      int32
	trusted  bool // may command the agent
	reads    bool // came by the socket that is for reading
	known    bool // the kernel said who it is
}

type peerKey struct{}

func peerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}

// withPeer returns the ConnContext of a server whose socket belongs to group
// gid (-1: to none). A connection whose peer is not known is not trusted.
func withPeer(gid int, log *slog.Logger) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		p, err := peerCredentials(c, gid)
		if err != nil {
			log.Warn("peer of the api socket is not known, it may only read the status", "err", err)
		}
		return context.WithValue(ctx, peerKey{}, p)
	}
}

// peerCredentials asks the kernel who connected. Root, the agent's own user and
// the members of group gid are trusted.
func peerCredentials(c net.Conn, gid int) (peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}, fmt.Errorf("peer of %s: no unix socket", c.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("peer of unix socket: %w", err)
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr, groupErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupErr = peerGroups(int(fd))
	})
	if err := errors.Join(err, credErr); err != nil {
		return peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	p := peer{uid: cred.Uid, gid: cred.Gid, pid: cred.Pid, known: true}
	p.trusted = p.uid == 0 || int(p.uid) == os.Geteuid() ||
		gid >= 0 && (int(p.gid) == gid || slices.Contains(groups, uint32(gid)))
	return p, groupErr
}

// peerGroups is the peer's supplementary groups, which SO_PEERCRED lacks and
// where `usermod -aG` puts a user (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4], nil
		case syscall.ERANGE: // size now says how much is needed
			groups = make([]uint32, size/4)
		default:
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		}
	}
}
