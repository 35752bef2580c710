package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// place is where an engine of this machine listens.
type place struct {
	socket  string
	pidfile string // names the engine's process while it runs
	manager int    // the process that may listen for an engine that does not run
}

// placeOf is a socket as it is where the engine has its usual pidfile and systemd,
// with docker.socket, starts it for whoever dials.
func placeOf(socket string) place { return place{socket, "/run/docker.pid", 1} }

// errAsleep: the engine does not run, and would be started by a connection.
var errAsleep = errors.New("the engine does not run")

// dial connects to the engine, but never starts one that its administrator has
// stopped: that is errAsleep.
func (p place) dial(ctx context.Context) (net.Conn, error) {
	if p.asleep() {
		return nil, errAsleep
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", p.socket)
}

// asleep reports whether only the service manager has the socket. An engine that
// is being stopped gives it up long before it ends, and whoever dials then has it
// started again. What the kernel does not tell counts as awake.
func (p place) asleep() bool {
	all := listeners(p.manager, p.socket)
	return holdsAny(p.manager, all) && !holdsAny(p.engine(), all)
}

// engine is the process that the pidfile names, which a killed engine leaves
// behind; 0: none.
func (p place) engine() int {
	text, err := os.ReadFile(p.pidfile)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// listeners are the sockets that were made at a path, as a process sees it: in its
// network namespace, and whatever it calls the file (/var/run, /run). One of
// several has the file: an engine that makes a socket of its own takes the
// manager's away.
func listeners(pid int, path string) (sockets []string) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil
	}
	table, err := os.Open(fmt.Sprintf("/proc/%d/net/unix", pid))
	if err != nil {
		return nil
	}
	defer func() { _ = table.Close() }()
	// Num RefCount Protocol Flags Type St Inode Path
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[3] != accepting || filepath.Base(f[7]) != filepath.Base(path) {
			continue
		}
		if at, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", pid, f[7])); err == nil && os.SameFile(at, file) {
			sockets = append(sockets, "socket:["+f[6]+"]")
		}
	}
	return sockets
}

// accepting is the flag of a socket that listens (__SO_ACCEPTCON).
const accepting = "00010000"

// holdsAny reports whether a process has one of the sockets open.
func holdsAny(pid int, sockets []string) bool {
	if len(sockets) == 0 {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && slices.Contains(sockets, to) {
			return true
		}
	}
	return false
}
