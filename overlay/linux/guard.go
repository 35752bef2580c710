package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// guardChains are the chains that can hold a rule of ours, the preferred first.
var guardChains = []string{"DOCKER-USER", "FORWARD"}

// Guards returns the chains of iptables(8) that drop forwarded packets, or may,
// as the last List found them: DOCKER-USER where there is one, else FORWARD if
// its policy is to drop.
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
	err := k.eachFilter(func(f *iptables.IPTables, v6 bool) error { return g.read(f, v6) })
	if err != nil {
		k.log.Warn("the host's own packet filter cannot be read", "err", err)
		g = guarding{}
	}
	k.guards.Store(&g.guards)
	l.objects = append(l.objects, g.accepts...)
	return nil
}

// guarding is what the filters of iptables(8) say of forwarded packets.
type guarding struct {
	guards  []overlay.Guard // at most one a family
	accepts []overlay.Object
}

func (g *guarding) read(f *iptables.IPTables, v6 bool) error {
	found := false
	for _, chain := range guardChains {
		there, err := f.ChainExists("filter", chain)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		rules, err := f.List("filter", chain)
		if err != nil {
			return err
		}
		guard := overlay.Guard{IPv6: v6, Chain: chain}
		if !found && (chain != "FORWARD" || slices.Contains(rules, "-P FORWARD DROP")) {
			found = true
			g.guards = append(g.guards, guard)
		}
		for _, in := range []bool{false, true} {
			a := overlay.Accept{Guard: guard, In: in}
			if slices.ContainsFunc(rules, func(rule string) bool { return isAccept(rule, a) }) {
				g.accepts = append(g.accepts, a)
			}
		}
	}
	return nil
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
	return k.withFilter(a.IPv6, func(f *iptables.IPTables) error {
		return f.InsertUnique("filter", a.Chain, 1, acceptRule(a)...)
	})
}

func (k *Kernel) deleteAccept(a overlay.Accept) error {
	return k.withFilter(a.IPv6, func(f *iptables.IPTables) error {
		there, err := f.ChainExists("filter", a.Chain)
		if err != nil || !there {
			return err
		}
		return f.DeleteIfExists("filter", a.Chain, acceptRule(a)...)
	})
}

// eachFilter calls do for each family whose filter exists in the host namespace.
func (k *Kernel) eachFilter(do func(f *iptables.IPTables, v6 bool) error) error {
	for _, v6 := range []bool{false, true} {
		there, err := k.hasFilter(v6)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := k.withFilter(v6, func(f *iptables.IPTables) error { return do(f, v6) }); err != nil && !errors.Is(err, exec.ErrNotFound) {
			return err
		}
	}
	return nil
}

// hasFilter looks for a filter without making one, as listing it with the
// program would.
func (k *Kernel) hasFilter(v6 bool) (bool, error) {
	names := "/proc/thread-self/net/ip_tables_names"
	if v6 {
		names = "/proc/thread-self/net/ip6_tables_names"
	}
	there, err := k.nft.HasFilter(v6)
	if err != nil || there {
		return there, err
	}
	err = netns.Within(k.host.ns, func() error {
		b, _ := os.ReadFile(names) // absent without the old iptables
		there = slices.Contains(strings.Fields(string(b)), "filter")
		return nil
	})
	return there, err
}

// withFilter runs programs in the host namespace.
func (k *Kernel) withFilter(v6 bool, do func(f *iptables.IPTables) error) error {
	program, family := "iptables", iptables.ProtocolIPv4
	if v6 {
		program, family = "ip6tables", iptables.ProtocolIPv6
	}
	return netns.Within(k.host.ns, func() error {
		f, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(5))
		if err == nil {
			err = do(f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		return nil
	})
}
