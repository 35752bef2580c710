package discoverytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Consul is a real Consul server on loopback.
type Consul struct {
	URL   string // http://127.0.0.1:PORT
	Token string // may do everything; empty without ACLs

	bin  string
	args []string
	proc *os.Process
	done chan struct{} // closed when the process has ended
	log  *bytes.Buffer
}

// ConsulConfig is how a server is started. The zero value is a server of its
// own, in memory, without ACLs.
type ConsulConfig struct {
	ACL bool // deny what no token allows
}

// ConsulBinary finds the program: $WEFT_CONSUL, else consul-<version> (or a
// folder of that name that holds consul) in $XDG_CACHE_HOME/weft, the last by
// name. Its error says where it looked.
func ConsulBinary() (string, error) {
	if bin := os.Getenv("WEFT_CONSUL"); bin != "" {
		return bin, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no consul: WEFT_CONSUL is not set, and there is no cache folder: %w", err)
	}
	pattern := filepath.Join(cache, "weft", "consul-*.*")
	found, _ := filepath.Glob(pattern)
	for i := len(found) - 1; i >= 0; i-- {
		for _, bin := range []string{found[i], filepath.Join(found[i], "consul")} {
			if info, err := os.Stat(bin); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return bin, nil
			}
		}
	}
	return "", fmt.Errorf("no consul: WEFT_CONSUL is not set and %s does not exist; .ci/install builds it", pattern)
}

// StartConsul starts a server that ends with the test. It skips the test when
// there is no program.
func StartConsul(t testing.TB, cfg ConsulConfig) *Consul {
	t.Helper()
	bin, err := ConsulBinary()
	if err != nil {
		t.Skip(err)
	}
	c := &Consul{bin: bin}
	ports := freePorts(t, 3)
	c.URL = "http://127.0.0.1:" + ports[0]
	c.args = []string{"agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-log-level", "warn",
		"-node", "t" + ports[0], "-http-port", ports[0], "-server-port", ports[1], "-serf-lan-port", ports[2],
		"-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1"}
	if cfg.ACL {
		c.args = append(c.args, "-hcl", `acl { enabled = true, default_policy = "deny" }`)
	}
	c.Start(t)
	t.Cleanup(c.Kill)
	if cfg.ACL {
		var answer struct{ SecretID string }
		c.Call(t, http.MethodPut, "/v1/acl/bootstrap", nil, &answer)
		c.Token = answer.SecretID
	}
	return c
}

// StartConsulCluster starts n servers on 127.0.0.1 to 127.0.0.n that keep one
// replicated store on disk.
func StartConsulCluster(t testing.TB, n int) []*Consul {
	t.Helper()
	bin, err := ConsulBinary()
	if err != nil {
		t.Skip(err)
	}
	ports := freePorts(t, 3)
	out := make([]*Consul, n)
	for i := range out {
		addr := "127.0.0." + strconv.Itoa(i+1)
		out[i] = &Consul{bin: bin, URL: "http://" + addr + ":" + ports[0]}
		out[i].args = []string{"agent", "-server", "-bootstrap-expect", strconv.Itoa(n), "-data-dir", t.TempDir(),
			"-bind", addr, "-client", addr, "-log-level", "warn", "-node", addr,
			"-http-port", ports[0], "-server-port", ports[1], "-serf-lan-port", ports[2],
			"-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1",
			"-retry-join", "127.0.0.1:" + ports[2], "-retry-interval", "1s",
			"-hcl", "performance { raft_multiplier = 1 }"}
		out[i].launch(t)
		t.Cleanup(out[i].Kill)
	}
	for _, c := range out {
		c.Await(t)
	}
	return out
}

// Start starts the server, again with empty contents when it is one in memory,
// and returns when it has a leader.
func (c *Consul) Start(t testing.TB) {
	t.Helper()
	c.launch(t)
	c.Await(t)
}

func (c *Consul) launch(t testing.TB) {
	t.Helper()
	c.done, c.log = make(chan struct{}), &bytes.Buffer{}
	cmd := exec.Command(c.bin, c.args...)
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the parent thread ends: this one stays as
		// long as the server, and dies with the test, however that ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", c.bin, err)
	}
	c.proc = cmd.Process
}

// Await returns when the server knows a leader and serves reads.
func (c *Consul) Await(t testing.TB) {
	t.Helper()
	client := c.client()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-c.done:
			t.Fatalf("%s ended:\n%s", c.bin, c.log)
		case <-time.After(20 * time.Millisecond):
		}
		resp, err := client.Get(c.URL + "/v1/status/leader")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if strings.Contains(string(b), ":") && c.serves(client) {
			return
		}
	}
	t.Fatalf("%s has no leader after 30 s:\n%s", c.URL, c.log)
}

// serves reports whether reads are answered: a new leader takes a moment, and
// makes its own ACL tables before anything else.
func (c *Consul) serves(client *http.Client) bool {
	resp, err := client.Get(c.URL + "/v1/kv/?keys&consistent")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode < 500
}

// Leads reports whether this server is the leader of its cluster.
func (c *Consul) Leads(t testing.TB) bool {
	t.Helper()
	var self struct {
		Stats struct {
			Consul struct{ Leader string }
		}
	}
	c.Call(t, http.MethodGet, "/v1/agent/self", nil, &self)
	return self.Stats.Consul.Leader == "true"
}

// Kill ends the server as a power cut does. It is nothing for one that has
// ended.
func (c *Consul) Kill() {
	c.proc.Kill()
	<-c.done
}

// Pause stops the server without ending it.
func (c *Consul) Pause() { c.proc.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (c *Consul) Resume() { c.proc.Signal(syscall.SIGCONT) }

// NewToken makes a token with the given rules.
func (c *Consul) NewToken(t testing.TB, rules string) (id, secret string) {
	t.Helper()
	name := "p" + strconv.FormatInt(time.Now().UnixNano(), 36)
	c.Call(t, http.MethodPut, "/v1/acl/policy", map[string]any{"Name": name, "Rules": rules}, nil)
	var token struct{ AccessorID, SecretID string }
	c.Call(t, http.MethodPut, "/v1/acl/token", map[string]any{"Policies": []map[string]string{{"Name": name}}}, &token)
	return token.AccessorID, token.SecretID
}

// Snapshot saves the whole store; Restore puts it back, index and all.
func (c *Consul) Snapshot(t testing.TB) []byte {
	t.Helper()
	return c.do(t, http.MethodGet, "/v1/snapshot", nil)
}

// Restore replaces the store's contents by those of a Snapshot.
func (c *Consul) Restore(t testing.TB, snapshot []byte) {
	t.Helper()
	c.do(t, http.MethodPut, "/v1/snapshot", snapshot)
	c.Await(t)
}

// Call makes one API call as the owner of Token, with JSON both ways.
func (c *Consul) Call(t testing.TB, method, path string, in, out any) {
	t.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	answer := c.do(t, method, path, body)
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
}

func (c *Consul) do(t testing.TB, method, path string, body []byte) []byte {
	t.Helper()
	req, err := http.NewRequest(method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", c.Token)
	resp, err := c.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s (%v)", method, path, resp.Status, answer, err)
	}
	return answer
}

// client keeps no connections: the server may be killed between two calls.
func (c *Consul) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// freePorts are ports that nobody listens on at 127.0.0.1, tcp and udp.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		u, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer u.Close()
		out = append(out, port)
	}
	return out
}
