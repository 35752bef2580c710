package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// started is a file that was changed after an agent was started with it.
	started := func(name, changed string) string {
		path := file(name, "run_dir: "+filepath.Join(dir, name+".d")+"\n")
		cfg, err := config.Load(path, nil)
		if err == nil {
			err = noteRunning(cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file(name, "run_dir: "+filepath.Join(dir, name+".d")+"\n"+changed)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr []string
	}{
		{"print-default prints the reference", []string{"config", "print-default"}, 0, config.DefaultYAML, nil},
		{"version", []string{"version"}, 0, api.Release() + "\n", nil},
		{"the version as a flag", []string{"--version"}, 0, api.Release() + "\n", nil},
		{"the reference is valid", []string{"config", "check", file("default", config.DefaultYAML)}, 0, filepath.Join(dir, "default") + " is valid\n", nil},
		{"an unknown key, with line and place", []string{"config", "check", file("bad", "name: h1\ncolour: red\n")}, 2, "",
			[]string{"agentd: configuration " + filepath.Join(dir, "bad"), "[2:1]", "colour", "hint: "}},
		{"no such file", []string{"--config", filepath.Join(dir, "none")}, 2, "", []string{"agentd: ", "none", "hint: "}},
		{"an unknown flag", []string{"--colour", "red"}, 2, "", []string{"agentd: ", "--colour", "hint: "}},
		{"an unknown command", []string{"dance"}, 2, "", []string{"agentd: ", `"dance"`, "hint: "}},
		{"a bad value", []string{"--gossip-port", "many"}, 2, "", []string{"--gossip-port", `"many"`, "hint: "}},
		{"a reload of what the agent has", []string{"config", "check", "--running", started("run", "log_level: debug\n")}, 0, "", nil},
		{"a reload of a key that needs a restart", []string{"config", "check", "--running", started("again", "log_level: debug\ngossip_port: 5000\n")}, 1, "",
			[]string{"agentd: reload: gossip_port: ", "hint: systemctl restart agentd"}},
		{"config check without a file", []string{"config", "check"}, 2, "", []string{"agentd: config check: want one FILE, got 0", "hint: "}},
		{"a command of a later release", []string{"wireguard"}, 2, "", []string{"agentd: ", "hint: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit %d, want %d: %s", code, tt.code, &stderr)
			}
			if tt.stdout != stdout.String() {
				t.Errorf("stdout %q, want %q", &stdout, tt.stdout)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr %q lacks %q", &stderr, want)
				}
			}
		})
	}
}

// An agent that is refused says nothing of what the one that runs was started with.
func TestRefusedAgentLeavesWhatTheRunningOneWrote(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent needs root to get as far as its data directory")
	}
	dir := t.TempDir()
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	const said = `{"name":"first"}`
	running := filepath.Join(dir, runningFile)
	if err := os.WriteFile(running, []byte(said), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := run(t.Context(), []string{"--name", "second", "--advertise", "192.0.2.1", "--run-dir", dir, "--data-dir", dir}, &out, &out)
	if code == exitOK || !strings.Contains(out.String(), "another agent uses this data directory") {
		t.Errorf("exit %d: %s", code, &out)
	}
	if got, err := os.ReadFile(running); err != nil || string(got) != said {
		t.Errorf("%s holds %q, %v, want %q", running, got, err, said)
	}
}

func TestHelpNamesEveryKey(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &out); code != 0 {
		t.Fatalf("exit %d: %s", code, &out)
	}
	for _, k := range config.Keys() {
		if !strings.Contains(out.String(), "--"+k.Flag+" ") {
			t.Errorf("--%s is not in the help", k.Flag)
		}
		if line := regexp.MustCompile("(?m)^ +--" + k.Flag + " .*$").FindString(out.String()); strings.Count(line, k.Value) != 1 || !strings.HasSuffix(line, k.Usage) {
			t.Errorf("the help says %q, want %s once", line, k.Value)
		}
	}
}
