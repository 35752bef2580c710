package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// netnsEtc is where ip-netns(8) looks for files that stand in for those of
// /etc inside a named namespace.
const netnsEtc = "/etc/netns"

// resolvMark begins every resolv.conf that is ours; without it a file is the
// user's.
const resolvMark = "# weft: endpoint "

// keptSuffix is appended to a resolv.conf that was there before ours.
const keptSuffix = ".before-weft"

// renderResolv gives a named namespace the resolver of the networks that its
// endpoints are on, so that `ip netns exec NAME …` resolves names at once; the
// one with the default route is asked. A file that is not ours is kept aside,
// and comes back with the last endpoint.
func (s *session) renderResolv(netns string) error {
	path := filepath.Join(netnsEtc, netns, "resolv.conf")
	var on []Local
	for _, l := range s.journal.all() {
		if l.Resolv == netns {
			on = append(on, l)
		}
	}
	if len(on) == 0 {
		return takeBackResolv(path)
	}
	slices.SortStableFunc(on, func(a, b Local) int { return a.Created.Compare(b.Created) })
	first, ok := s.network(on[0].Endpoint.Network.String())
	if !ok {
		return nil
	}
	var search []string
	for _, l := range on {
		if n, ok := s.network(l.Endpoint.Network.String()); ok {
			search = append(search, n.Name+"."+s.cfg.Domain)
		}
	}
	search = append(append(search, s.cfg.Domain), searchDomains(s.cfg.DNS.ResolvConf)...)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", resolvMark, on[0].Endpoint.ID)
	// Exactly one: a second, public one would answer NXDOMAIN for our names
	// (musl asks all at once and takes the first answer).
	fmt.Fprintf(&b, "nameserver %s\n", first.Subnets[0].Gateway)
	fmt.Fprintf(&b, "search %s\noptions ndots:1\n", strings.Join(slices.Compact(search), " "))
	if err := keepResolv(path); err != nil {
		return err
	}
	return replaceFile(path, b.Bytes(), 0o644)
}

// keepResolv moves a file that is not ours out of the way, once.
func keepResolv(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && bytes.HasPrefix(old, []byte(resolvMark)) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(path, path+keptSuffix)
}

// takeBackResolv removes our file and restores the one that was there before.
func takeBackResolv(path string) error {
	old, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(old, []byte(resolvMark)) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	err = os.Rename(path+keptSuffix, path)
	if errors.Is(err, os.ErrNotExist) {
		// Nothing was there before; an empty directory is ours as well.
		_ = os.Remove(filepath.Dir(path))
		return nil
	}
	return err
}

// restoreResolv rewrites the namespace's file after one of its endpoints went.
func (s *session) restoreResolv(l Local) {
	if l.Resolv == "" {
		return
	}
	if err := s.renderResolv(l.Resolv); err != nil {
		s.log.Warn("resolv.conf of the namespace not restored", "netns", l.Resolv, "err", err)
	}
}

// resolvers are the nameservers of a resolv.conf(5); none when it cannot be
// read.
func resolvers(path string) []netip.Addr {
	var out []netip.Addr
	for _, f := range resolvLines(path, "nameserver") {
		if a, err := netip.ParseAddr(f); err == nil {
			out = append(out, a.WithZone(""))
		}
	}
	return out
}

// searchDomains are the search list of a resolv.conf(5).
func searchDomains(path string) []string { return resolvLines(path, "search") }

func resolvLines(path, keyword string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []string
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == keyword {
			out = append(out, f[1:]...)
		}
	}
	return out
}
