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

	"github.com/weft-net/weft/discovery/ipam"
)

// netnsEtc is where ip-netns(8) looks for files that stand in for those of
// /etc inside a named namespace.
const netnsEtc = "/etc/netns"

// resolvMark begins every resolv.conf that is ours; without it a file is the
// user's.
const resolvMark = "# weft: endpoint "

// resolvFiles are the resolv.conf files of named namespaces, and what was there
// before ours. The latter are kept elsewhere: ip-netns(8) binds every file of
// the namespace's directory over its namesake in /etc, and complains of one that
// has none.
type resolvFiles struct {
	etc  string // holds NAME/resolv.conf
	kept string // holds NAME: the file that was there before
}

func newResolvFiles(dataDir string) resolvFiles {
	return resolvFiles{etc: netnsEtc, kept: filepath.Join(dataDir, "resolv")}
}

func (f resolvFiles) path(netns string) string { return filepath.Join(f.etc, netns, "resolv.conf") }

// write puts our file in the place of one that is the user's, of which it keeps
// a copy.
func (f resolvFiles) write(netns string, b []byte) error {
	path := f.path(netns)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case !bytes.HasPrefix(old, []byte(resolvMark)):
		if err := os.MkdirAll(f.kept, 0o700); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(f.kept, netns), old, 0o644); err != nil {
			return err
		}
	}
	return replaceFile(path, b, 0o644)
}

// takeBack removes our file and restores the one that was there before. A file
// that is the user's is left alone.
func (f resolvFiles) takeBack(netns string) error {
	path, kept := f.path(netns), filepath.Join(f.kept, netns)
	now, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(now, []byte(resolvMark)) {
		return nil
	}
	old, err := os.ReadFile(kept)
	switch {
	case err == nil:
		err = errors.Join(replaceFile(path, old, 0o644), os.Remove(kept))
	case errors.Is(err, os.ErrNotExist):
		err = os.Remove(path)
	}
	// Empty directories are ours as well.
	_ = os.Remove(filepath.Dir(path))
	_ = os.Remove(f.kept)
	return err
}

// renderResolv gives a named namespace the resolver of the networks that its
// endpoints are on, so that `ip netns exec NAME …` resolves names at once; the
// one with the default route is asked. A file that is not ours is kept aside,
// and comes back with the last endpoint.
func (s *session) renderResolv(netns string) error {
	files := newResolvFiles(s.cfg.DataDir)
	var on []Local
	for _, l := range s.journal.all() {
		if l.Resolv == netns {
			on = append(on, l)
		}
	}
	if len(on) == 0 {
		return files.takeBack(netns)
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
	return files.write(netns, b.Bytes())
}

// restoreResolv rewrites the namespace's file after one of its endpoints went,
// or came back.
func (s *session) restoreResolv(l Local) {
	if l.Resolv == "" {
		return
	}
	if err := s.renderResolv(l.Resolv); err != nil {
		s.log.Warn("resolv.conf of the namespace not restored", "netns", l.Resolv, "err", err)
	}
}

// cleanResolv takes back every file that the journal of a data directory names,
// for a host without a running agent.
func cleanResolv(dir *dataDir) error {
	if _, err := os.Stat(dir.file("leases.db")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := openBolt(dir.file("leases.db"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	j, err := openJournal(ipam.NewDisk(db))
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range j.all() {
		if l.Resolv != "" {
			errs = append(errs, newResolvFiles(dir.path).takeBack(l.Resolv))
		}
	}
	return errors.Join(errs...)
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
