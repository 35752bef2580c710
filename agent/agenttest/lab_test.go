package agenttest

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// at makes a Sandbox of a host's own namespace: the harness is tested without
// an overlay.
func at(h *Host) *Sandbox { return &Sandbox{NS: h.NS, Host: h} }

func TestHostsReachEachOtherUntilTheCableIsPulled(t *testing.T) {
	l := NewLab(t, Config{Hosts: 2, UnderlayMTU: 1400})
	one, two := at(l.Host(1)), l.Host(2)
	if err := one.PingOnce(two.Addr); err != nil {
		t.Fatal(err)
	}
	if err := one.PingOnce(InternetAddr); err != nil {
		t.Fatal(err)
	}
	if r := one.NS.Run("ping", "-c1", "-W1", "-Mdo", "-s1400", two.Addr.String()); r.Code == 0 {
		t.Errorf("1428 bytes crossed an underlay of 1400")
	}
	p := one.StartPing(two.Addr)
	l.Cut(two)
	if err := one.PingOnce(two.Addr); err == nil {
		t.Errorf("a cut host answers")
	}
	l.Heal(two)
	p.AwaitReplies(2)
	if received, lost := p.Stop(); received == 0 || len(lost) == 0 {
		t.Errorf("ping over the cut: %d received, lost %v: want some of each", received, lost)
	}
}

func TestTunnelPacketsCountsOneNetworkOnly(t *testing.T) {
	l := NewLab(t, Config{Hosts: 2})
	count := l.TunnelPackets(4096)
	to := netip.AddrPortFrom(l.Host(2).Addr, 4799)
	listener, err := l.Host(2).NS.ListenUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := l.Host(1).NS.DialUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, vni := range []byte{0, 0, 1} { // in the middle byte: 4096 is 0x1000
		if _, err := conn.Write([]byte{8, 0, 0, 0, 0, 0x10 * (1 - vni), 0, 0, 1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
	}
	Eventually(t, time.Second, "two packets are counted", func() error {
		if n := count(); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

func TestHandWiredSandboxesTalkThroughATunnel(t *testing.T) {
	l := NewLab(t, Config{Hosts: 2})
	hand := l.HandWire(l.Host(1), l.Host(2), nil, nil)
	packets := l.TunnelPackets(handVNI)
	if err := hand.One.PingOnce(hand.AddrTwo); err != nil {
		t.Fatal(err)
	}
	if n := packets(); n != 2 {
		t.Errorf("one ping was %d packets in the tunnel, want 2", n)
	}
}

func TestMonitorShowsDeletions(t *testing.T) {
	l := NewLab(t, Config{Hosts: 1})
	h := l.Host(1)
	m := l.Monitor(h.NS, "link", "route")
	h.NS.batch(t, "route add blackhole 203.0.113.0/24", "route del blackhole 203.0.113.0/24")
	Eventually(t, 5*time.Second, "the deletion is seen", func() error {
		b, err := os.ReadFile(m.procs[0].log)
		if err == nil && !strings.Contains(string(b), "Deleted") {
			err = fmt.Errorf("%s", b)
		}
		return err
	})
	if got := Deleted(m.Stop()); len(got) != 1 || !strings.Contains(got[0], "203.0.113.0/24") {
		t.Errorf("deleted: %q", got)
	}
}

func TestConsulElectsItselfAndKeepsItsData(t *testing.T) {
	l := NewLab(t, Config{Hosts: 1, Store: Consul})
	h := l.Host(1)
	h.NS.Must(t, "curl", "-sf", "-m5", "-X", "PUT", "-d", "kept", consulURL+"/v1/kv/k")
	l.StopConsul()
	if r := h.NS.Run("curl", "-sf", "-m1", consulURL+"/v1/kv/k?raw"); r.Code == 0 {
		t.Errorf("a stopped Consul answers: %s", r)
	}
	l.StartConsul()
	if got := h.NS.Must(t, "curl", "-sf", "-m5", consulURL+"/v1/kv/k?raw"); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// killedLab is the environment variable that makes this test binary make a lab
// and wait to be killed.
const killedLab = "WEFT_TEST_KILLED_LAB"

func TestLabOfAKilledTestIsSwept(t *testing.T) {
	if os.Getenv(killedLab) != "" {
		l := NewLab(t, Config{Hosts: 1})
		start(t, os.DevNull, nil, l.Host(1).NS.Enter("sleep", "1000")...)
		fmt.Println("lab", l.ID)
		select {}
	}
	Need(t, "ip", "nsenter")
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), killedLab+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id := labOf(t, out)
	cmd.Process.Kill()
	cmd.Wait()

	if left := leftovers(id); len(left) == 0 {
		t.Fatalf("the killed test left nothing: is this a test?")
	}
	NewLab(t, Config{Hosts: 1})
	if left := leftovers(id); len(left) > 0 {
		t.Errorf("left after the next lab was made: %v", left)
	}
}

// labOf reads the id of the lab that the child made.
func labOf(t *testing.T, out io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "lab "); ok {
			return id
		}
	}
	t.Fatalf("the child made no lab")
	return ""
}

func leftovers(id string) []string {
	a, _ := filepath.Glob("/run/netns/" + id + "-*")
	b, _ := filepath.Glob(labs + "/" + id)
	return append(a, b...)
}
