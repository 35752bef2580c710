package vm

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// port is the serial port over which the machine is asked to run scripts, one after
// the other.
type port struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	last int // the number of the script
}

// open waits until the machine says that it is ready.
func (p *port) open(l *net.UnixListener, within time.Duration, done <-chan struct{}) error {
	deadline := time.Now().Add(within)
	go func() { // an emulator that has ended will not call
		<-done
		l.Close()
	}()
	l.SetDeadline(deadline)
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	p.conn, p.in = conn, bufio.NewReader(conn)
	conn.SetReadDeadline(deadline)
	line, err := p.in.ReadString('\n')
	if err != nil || line != "ready\n" {
		return fmt.Errorf("%q: %w", line, err)
	}
	return nil
}

func (p *port) close() {
	if p.conn != nil {
		p.conn.Close()
	}
}

// call hands over a script and waits for its exit code.
func (p *port) call(number int, within time.Duration) (code int, err error) {
	if _, err := fmt.Fprintln(p.conn, number); err != nil {
		return -1, err
	}
	p.conn.SetReadDeadline(time.Now().Add(within))
	line, err := p.in.ReadString('\n')
	if err != nil {
		return -1, err
	}
	f := strings.Fields(line)
	if len(f) != 2 || f[0] != strconv.Itoa(number) {
		return -1, fmt.Errorf("script %d: the machine answers %q", number, line)
	}
	return strconv.Atoi(f[1])
}

// commandLimit is far above what a command of a test takes in the machine.
const commandLimit = 4 * time.Minute

// Run runs a program in the machine, as root.
func (m *Machine) Run(args ...string) agenttest.Result {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	r := m.script("exec "+strings.Join(quoted, " ")+"\n", commandLimit)
	r.Args = args
	return r
}

// script runs a script of bash in the machine. What it prints is in the share while it
// runs.
func (m *Machine) script(text string, within time.Duration) agenttest.Result {
	m.port.mu.Lock()
	defer m.port.mu.Unlock()
	m.port.last++
	base := filepath.Join(m.Share, strconv.Itoa(m.port.last))
	r := agenttest.Result{Args: []string{text}, Code: -1}
	err := os.WriteFile(base+".sh", []byte(text), 0o644)
	if err == nil {
		r.Code, err = m.port.call(m.port.last, within)
	}
	stdout, outErr := os.ReadFile(base + ".out")
	stderr, errErr := os.ReadFile(base + ".err")
	r.Stdout, r.Stderr = string(stdout), string(stderr)
	if err := errors.Join(err, outErr, errErr); err != nil {
		r.Stderr += err.Error()
	}
	return r
}

// Must is Run for a program that must succeed; it returns what it printed, without the
// last line's end.
func (m *Machine) Must(args ...string) string {
	m.t.Helper()
	r := m.Run(args...)
	if r.Code != 0 {
		m.t.Fatalf("%s", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// Eventually runs a program until it succeeds.
func (m *Machine) Eventually(within time.Duration, args ...string) {
	m.t.Helper()
	agenttest.Eventually(m.t, within, strings.Join(args, " "), func() error {
		if r := m.Run(args...); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// CopyIn puts a file from outside into the machine.
func (m *Machine) CopyIn(from, to string) {
	m.t.Helper()
	must(m.t, "cp", from, filepath.Join(m.Share, "copy"))
	m.Must("install", "-D", "/w/copy", to)
}

// Write puts a file of that content into the machine.
func (m *Machine) Write(name, content string) {
	m.t.Helper()
	m.check(os.WriteFile(filepath.Join(m.Share, "copy"), []byte(content), 0o644))
	m.Must("install", "-D", "-m", "644", "/w/copy", name)
}
