package endpoint

import (
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

// files is what the resolv.conf files of named namespaces were made of. One is written
// at a time: what the journal says last is what stays.
type files struct {
	mu     sync.Mutex // held while a file is written
	search []string   // the host's, when all were last written
}

// FollowSearch writes all files again when the host's search list is another.
func (p *parts) FollowSearch() {
	search := p.Host.Search()
	p.files.mu.Lock()
	same := slices.Equal(search, p.files.search)
	p.files.search = search
	p.files.mu.Unlock()
	if same {
		return
	}
	for _, netns := range p.NamedFiles() {
		p.rewriteResolv(netns)
	}
}

// renderResolv gives a named namespace the resolver of the networks that its
// endpoints are on; the first one's is asked. A file that is the user's is kept
// aside, and comes back with the last endpoint.
func (p *parts) renderResolv(netns string) error {
	p.files.mu.Lock()
	defer p.files.mu.Unlock()
	var on []journal.Local
	for _, l := range p.Journal.All() {
		if l.Resolv == netns {
			on = append(on, l)
		}
	}
	if len(on) == 0 {
		return p.Host.Files.TakeBack(netns)
	}
	slices.SortStableFunc(on, func(a, b journal.Local) int { return a.Created.Compare(b.Created) })
	first, ok := p.Cluster.Network(on[0].Endpoint.Network)
	if !ok {
		return nil
	}
	file := resolvers.File{Endpoint: on[0].Endpoint.ID.String(), Server: first.Subnets[0].Gateway}
	for _, l := range on {
		if n, ok := p.Cluster.Network(l.Endpoint.Network); ok {
			file.Search = append(file.Search, n.Name+"."+p.Host.Domain)
		}
	}
	file.Search = append(append(file.Search, p.Host.Domain), p.Host.Search()...)
	return p.Host.Files.Put(netns, file)
}

// NamedFiles are the named namespaces that have a resolv.conf of ours, sorted.
func (p *parts) NamedFiles() (out []string) {
	for _, l := range p.Journal.All() {
		if l.Resolv != "" && !slices.Contains(out, l.Resolv) {
			out = append(out, l.Resolv)
		}
	}
	slices.Sort(out)
	return out
}

// restoreResolv rewrites the namespace's file after one of its endpoints went,
// or came back.
func (p *parts) restoreResolv(l journal.Local) {
	if l.Resolv != "" {
		p.rewriteResolv(l.Resolv)
	}
}

func (p *parts) rewriteResolv(netns string) {
	if err := p.renderResolv(netns); err != nil {
		p.Log.Warn("resolv.conf of the namespace not written", "netns", netns, "err", err)
	}
}

// CleanResolv takes back every file that the journal of a data directory names, for a
// host without a running agent.
func CleanResolv(dir *datadir.Dir) error {
	path := dir.File(datadir.LeasesDB)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, _, err := datadir.OpenDB(path, boltfile.All)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	j, err := journal.Open(ipam.NewDisk(db), func(string, error) {})
	if err != nil {
		return err
	}
	files := resolvers.NewFiles(dir.Path())
	var errs []error
	for _, l := range j.All() {
		if l.Resolv != "" {
			errs = append(errs, files.TakeBack(l.Resolv))
		}
	}
	return errors.Join(errs...)
}
