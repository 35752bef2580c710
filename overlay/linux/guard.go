package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// guardChains are the chains that can hold a rule of ours, the preferred first.
var guardChains = []string{"DOCKER-USER", "FORWARD"}

// Guards returns the chains of iptables(8) that drop forwarded packets, or may,
// as the last List found them: DOCKER-USER where FORWARD leads there, else FORWARD
// if it drops or rejects what none of its rules has accepted.
func (k *Kernel) Guards(context.Context) ([]overlay.Guard, error) {
	if g := k.guards.Load(); g != nil {
		return *g, nil
	}
	return nil, nil
}

// listAccepts reads the guards and our rules in them. Programs are run only
// where a filter of theirs exists; one that fails is no reason to leave the rest
// of the kernel alone.
func (k *Kernel) listAccepts(l *listing) error {
	var g guarding
	err := k.eachFilter(func(f *iptables.IPTables, of backend) error { return g.read(f, of) })
	if err != nil {
		k.log.Warn("the host's own packet filter cannot be read", "err", err)
		g = guarding{}
	}
	k.guards.Store(&g.guards)
	l.objects = append(l.objects, g.accepts...)
	return nil
}

// backend is one of the filters that iptables(8) may have made: both the old one and
// that on nftables drop what they do not want.
type backend struct{ v6, legacy bool }

// guarding is what the filters of iptables(8) say of forwarded packets.
type guarding struct {
	guards  []overlay.Guard // at most one a backend
	accepts []overlay.Object
}

func (g *guarding) read(f *iptables.IPTables, of backend) error {
	rules := map[string][]string{}
	for _, chain := range guardChains {
		there, err := f.ChainExists("filter", chain)
		if err == nil && there {
			rules[chain], err = f.List("filter", chain)
		}
		if err != nil {
			return err
		}
	}
	guard := overlay.Guard{IPv6: of.v6, Legacy: of.legacy}
	switch {
	case rules["DOCKER-USER"] != nil && slices.Contains(rules["FORWARD"], "-A FORWARD -j DOCKER-USER"):
		guard.Chain = "DOCKER-USER"
	case slices.ContainsFunc(rules["FORWARD"], dropsAll):
		guard.Chain = "FORWARD"
	}
	if guard.Chain != "" {
		g.guards = append(g.guards, guard)
	}
	for chain, all := range rules {
		for _, in := range []bool{false, true} {
			a := overlay.Accept{Guard: overlay.Guard{IPv6: of.v6, Legacy: of.legacy, Chain: chain}, In: in}
			if slices.ContainsFunc(all, func(rule string) bool { return isAccept(rule, a) }) {
				g.accepts = append(g.accepts, a)
			}
		}
	}
	return nil
}

// dropsAll reports whether a line of FORWARD ends every packet that comes to it: the
// policy, or a rule without a condition.
func dropsAll(rule string) bool {
	words := strings.Fields(rule)
	if slices.Equal(words, []string{"-P", "FORWARD", "DROP"}) {
		return true
	}
	if i := slices.Index(words, "--comment"); i > 0 { // its text may have blanks
		if j := slices.Index(words, "-j"); j > i {
			words = slices.Delete(words, i-2, j)
		}
	}
	return len(words) > 3 && words[0] == "-A" && words[2] == "-j" && (words[3] == "DROP" || words[3] == "REJECT")
}

func isAccept(rule string, a overlay.Accept) bool {
	spec := acceptRule(a)
	return strings.Contains(rule, "--comment weft") && strings.Contains(rule, spec[2]+" "+spec[3])
}

// acceptRule is the rule without its chain.
func acceptRule(a overlay.Accept) []string {
	words := strings.Fields(a.String())
	return words[3:]
}

// putAccept inserts a rule at the top, so that no jump of another program comes
// before it.
func (k *Kernel) putAccept(a overlay.Accept) error {
	return k.withFilter(backend{a.IPv6, a.Legacy}, func(f *iptables.IPTables) error {
		return f.InsertUnique("filter", a.Chain, 1, acceptRule(a)...)
	})
}

func (k *Kernel) deleteAccept(a overlay.Accept) error {
	return k.withFilter(backend{a.IPv6, a.Legacy}, func(f *iptables.IPTables) error {
		there, err := f.ChainExists("filter", a.Chain)
		if err != nil || !there {
			return err
		}
		return f.DeleteIfExists("filter", a.Chain, acceptRule(a)...)
	})
}

// eachFilter calls do for each filter that exists in the host namespace.
func (k *Kernel) eachFilter(do func(f *iptables.IPTables, of backend) error) error {
	for _, of := range []backend{{}, {v6: true}, {legacy: true}, {v6: true, legacy: true}} {
		there, err := k.hasFilter(of)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := k.withFilter(of, func(f *iptables.IPTables) error { return do(f, of) }); err != nil && !errors.Is(err, exec.ErrNotFound) {
			return err
		}
	}
	return nil
}

// hasFilter looks for a filter without making one, as listing it with the
// program would.
func (k *Kernel) hasFilter(of backend) (there bool, err error) {
	if !of.legacy {
		return k.nft.HasFilter(of.v6)
	}
	names := "/proc/thread-self/net/ip_tables_names"
	if of.v6 {
		names = "/proc/thread-self/net/ip6_tables_names"
	}
	err = netns.Within(k.host.ns, func() error {
		b, _ := os.ReadFile(names) // absent without the old iptables
		there = slices.Contains(strings.Fields(string(b)), "filter")
		return nil
	})
	return there, err
}

// withFilter runs programs in the host namespace.
func (k *Kernel) withFilter(of backend, do func(f *iptables.IPTables) error) error {
	family := iptables.ProtocolIPv4
	if of.v6 {
		family = iptables.ProtocolIPv6
	}
	program := of.program()
	return netns.Within(k.host.ns, func() error {
		f, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(5), iptables.Path(program))
		if err == nil {
			err = do(f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		return nil
	})
}

// program is the one for a backend. Which of the two goes by the plain name is the
// host's choice (update-alternatives(1)).
func (b backend) program() string {
	name := "iptables"
	if b.v6 {
		name = "ip6tables"
	}
	legacy := false
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			legacy = strings.Contains(path, "legacy") || filepath.Base(path) == "xtables-multi"
		}
	} else {
		legacy = !b.legacy // only the full name is left to try
	}
	switch {
	case legacy == b.legacy:
		return name
	case b.legacy:
		return name + "-legacy"
	}
	return name + "-nft"
}
