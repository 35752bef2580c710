package nft

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/overlay/linux/netns"
)

// A repair waits this long for nft(8) to say what is repaired, and names so many
// differences.
const (
	reportTimeout = time.Second
	reported      = 8
)

// report says which rules somebody has changed since they were put: the line of
// ours beside that of nft(8).
func (t *table) report(ctx context.Context, made *plan) {
	t.mu.Lock()
	had, err := t.dump()
	t.mu.Unlock()
	if err != nil || !had.found {
		return
	}
	all := made.differs(had.content)
	if len(all) == 0 {
		return
	}
	listed := t.listed(ctx)
	for _, d := range all[:min(len(all), reported)] {
		if d.chain == "" {
			t.log.Warn("packet filter changed by another program", "table", t.family()+" "+t.def.Name, "change", d.other)
			continue
		}
		t.log.Warn("packet filter changed by another program", "table", t.family()+" "+t.def.Name, "chain", d.chain,
			"want", d.want, "have", listed[d.have.handle])
	}
}

// listed are the rules of the table as nft(8) shows them, by their handles. Where
// it fails there are none.
func (t *table) listed(ctx context.Context) map[uint64]string {
	var out string
	_ = netns.Within(t.ns, func() (err error) {
		out, err = run(ctx, reportTimeout, "", "--handle", "--stateless", "--terse", "list", "table", t.family(), t.def.Name)
		return err
	})
	lines := map[uint64]string{}
	for line := range strings.Lines(out) {
		rule, handle, ok := strings.Cut(strings.TrimSpace(line), " # handle ")
		if n, err := strconv.ParseUint(handle, 10, 64); ok && err == nil {
			lines[n] = rule
		}
	}
	return lines
}
