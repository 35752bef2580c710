package agent

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/overlay"
)

func TestAddressFollowsDaemonJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	for text, want := range map[string]bool{"": false, `{"dns": ["192.0.2.53", "169.254.53.53"]}`: true, `{"dns": ["192.0.2.53"]}`: false, "{": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := listed(file); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if overlay.DNSAddr.String() != setup.Address {
		t.Errorf("daemon.json is given %s, and the address is %s", setup.Address, overlay.DNSAddr)
	}
}

// foundDocker is a Docker whose engine was found.
type foundDocker struct {
	Docker
	version, api string
}

func (d foundDocker) Engine() (version, api string) { return d.version, d.api }

// Status is asked for every few seconds, and a connection starts an engine that
// was stopped.
func TestStatusKnowsTheEngineWithoutAskingIt(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{Docker: config.Docker{Socket: filepath.Join(dir, "docker.sock"), DaemonJSON: filepath.Join(dir, "daemon.json")}}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Docker.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, none := range []Docker{nil, foundDocker{}} {
		if found, _, err := lookDocker(none, cfg); found != nil || err != nil {
			t.Errorf("no engine: %+v, %v", found, err)
		}
	}
	found, f, err := lookDocker(foundDocker{version: "29.1.0", api: "1.52"}, cfg)
	if err != nil || found == nil || found.Engine != "29.1.0" {
		t.Errorf("an engine: %+v, %v", found, err)
	}
	if c := diagnose.DockerNames(f, cfg, true); c.State != api.CheckFail || !strings.Contains(c.Detail, "engine 29.1.0 asks for its containers from the host") {
		t.Errorf("of API 1.52: %+v", c)
	}
	if err := l.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the engine was asked")
	}
}
