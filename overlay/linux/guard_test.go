package linux

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
)

var discard = slog.New(slog.DiscardHandler)

// accepted are our rules in a chain of iptables(8), and whether they are its
// first ones.
func (h *host) accepted(t *testing.T, chain string) (rules []string, first bool) {
	t.Helper()
	var all []string
	for line := range strings.Lines(sh(t, "ip netns exec %s iptables -S %s", h.ns, chain)) {
		if strings.HasPrefix(line, "-A ") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	for _, rule := range all {
		if strings.Contains(rule, "weft") {
			rules = append(rules, rule)
		}
	}
	return rules, len(rules) > 0 && strings.Contains(all[0], "weft")
}

func needIPTables(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("iptables", "--version").Output(); err != nil || !strings.Contains(string(out), "nf_tables") {
		t.Skip("needs iptables(8) on nftables")
	}
}

// filterRow is a filter of another program.
type filterRow struct {
	chain  string // in which our rules belong
	before []string
}

// again adds the rules that a flush took.
func (row filterRow) again(t *testing.T, h *host) {
	t.Helper()
	for _, rule := range row.before {
		if strings.HasPrefix(rule, "-A "+row.chain) {
			sh(t, "ip netns exec %s iptables %s", h.ns, rule)
		}
	}
}

// Docker's rules and a dropping policy let pass what leaves and enters our
// networks, come back when they are flushed, and leave nothing behind.
func TestForwardedPacketsPassOtherFilters(t *testing.T) {
	needIPTables(t)
	for name, row := range map[string]filterRow{
		"a policy": {"FORWARD", []string{"-P FORWARD DROP", "-A FORWARD -i eth9 -j ACCEPT"}},
		"Docker": {"DOCKER-USER", []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER",
			"-A DOCKER-USER -j RETURN"}},
		"a rule for the rest":             {"FORWARD", []string{"-A FORWARD -i eth9 -j ACCEPT", "-A FORWARD -m comment --comment what-is-left -j REJECT"}},
		"Docker that found forwarding on": {"DOCKER-USER", []string{"-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for _, rule := range row.before {
				sh(t, "ip netns exec %s iptables %s", h.ns, rule)
			}
			before := sh(t, "ip netns exec %s iptables -S", h.ns)
			h.set(t, h.state(t, "one network"))
			rules, first := h.accepted(t, row.chain)
			if len(rules) != 2 || !first {
				t.Fatalf("rules: %q, on top: %v", rules, first)
			}
			drift, _, err := h.o.Verify(t.Context())
			must(t, err)
			if len(drift) > 0 {
				t.Errorf("not as wanted: %v", drift)
			}

			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- h.o.Run(ctx) }()
			sh(t, "ip netns exec %s iptables -F %s", h.ns, row.chain)
			row.again(t, h)
			for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
				again, _ := h.accepted(t, row.chain)
				if slices.Equal(rules, again) {
					t.Logf("back after %v", time.Since(start))
					break
				}
				if time.Since(start) > repairedWithin {
					t.Fatalf("%v after a flush: %q", repairedWithin, again)
				}
			}
			cancel()
			must(t, <-ended)

			s := h.state(t, "member of no network")
			h.set(t, s)
			if left, _ := h.accepted(t, row.chain); len(left) > 0 {
				t.Errorf("without a network there are still %q", left)
			}
			h.set(t, h.state(t, "one network"))
			must(t, h.k.Clean(t.Context()))
			if after := sh(t, "ip netns exec %s iptables -S", h.ns); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// The old iptables may have a filter of its own, beside that on nftables: what it
// drops stays dropped, whatever the other one accepts.
func TestForwardedPacketsPassTheOldFilter(t *testing.T) {
	needIPTables(t)
	h := newHost(t)
	for _, program := range []string{"iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"} {
		sh(t, "ip netns exec %s %s -P FORWARD DROP", h.ns, program)
	}
	h.set(t, h.state(t, "with IPv6"))
	for _, program := range []string{"iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"} {
		if rules := sh(t, "ip netns exec %s %s -S FORWARD", h.ns, program); strings.Count(rules, "--comment weft -j ACCEPT") != 2 {
			t.Errorf("%s: %s", program, rules)
		}
	}
	drift, _, err := h.o.Verify(t.Context())
	must(t, err)
	if len(drift) > 0 {
		t.Errorf("not as wanted: %v", drift)
	}
	must(t, h.k.Clean(t.Context()))
	if rules := sh(t, "ip netns exec %s iptables-legacy -S FORWARD", h.ns); strings.TrimSpace(rules) != "-P FORWARD DROP" {
		t.Errorf("left over: %s", rules)
	}
}

// A DOCKER-USER that FORWARD does not lead to lets nothing pass.
func TestChainThatNothingLeadsToIsNoPlaceForRules(t *testing.T) {
	needIPTables(t)
	h := newHost(t)
	for _, rule := range []string{"-P FORWARD DROP", "-N DOCKER-USER"} {
		sh(t, "ip netns exec %s iptables %s", h.ns, rule)
	}
	h.set(t, h.state(t, "one network"))
	if rules, _ := h.accepted(t, "FORWARD"); len(rules) != 2 {
		t.Errorf("in FORWARD: %q", rules)
	}
}

// Where nobody made a filter none is made by looking for it, and a filter that
// lets everything pass is left alone.
func TestNoGuardNoRule(t *testing.T) {
	needIPTables(t)
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	if tables := sh(t, "ip netns exec %s nft list tables", h.ns); strings.Contains(tables, "filter") {
		t.Errorf("tables: %s", tables)
	}
	sh(t, "ip netns exec %s iptables -A FORWARD -i eth9 -j DROP", h.ns)
	_, err := h.k.List(t.Context())
	must(t, err)
	guards, err := h.k.Guards(t.Context())
	must(t, err)
	if len(guards) > 0 {
		t.Errorf("guards: %v", guards)
	}
}

// Rules of before that stand in the wrong chain move when Docker comes.
func TestRulesMoveToDocker(t *testing.T) {
	needIPTables(t)
	h := newHost(t)
	sh(t, "ip netns exec %s iptables -P FORWARD DROP", h.ns)
	s := h.state(t, "one network")
	h.set(t, s)
	for _, rule := range []string{"-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"} {
		sh(t, "ip netns exec %s iptables %s", h.ns, rule)
	}
	second := overlay.New(h.k, "weft", discard)
	must(t, second.Set(t.Context(), s))
	inForward, _ := h.accepted(t, "FORWARD")
	inDocker, _ := h.accepted(t, "DOCKER-USER")
	if len(inForward) != 0 || len(inDocker) != 2 {
		t.Errorf("in FORWARD %q, in DOCKER-USER %q", inForward, inDocker)
	}
}

// A broken program is no reason to leave the network without devices.
func TestBrokenIPTables(t *testing.T) {
	needIPTables(t)
	h := newHost(t)
	sh(t, "ip netns exec %s iptables -P FORWARD DROP", h.ns)
	bin := t.TempDir()
	for _, program := range []string{"iptables", "ip6tables"} {
		must(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\necho out of order >&2\nexit 3\n"), 0o755))
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", bin+":"+path)
	h.set(t, h.state(t, "one network"))
	t.Setenv("PATH", path)
	if rules, _ := h.accepted(t, "FORWARD"); len(rules) > 0 {
		t.Errorf("rules: %q", rules)
	}
	must(t, overlay.New(h.k, "weft", discard).Set(t.Context(), h.state(t, "one network")))
	if rules, _ := h.accepted(t, "FORWARD"); len(rules) != 2 {
		t.Errorf("rules when it works again: %q", rules)
	}
}
