package membership

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// Remove takes a dead host out of the cluster. First it writes the fence: the host
// cannot come back and use what others are given. Once every member knows of the
// fence, Remove frees what the host held. It is safe to repeat. The host is given
// by its name, or by its id, since a dead host may share its name with a living
// one. A host that is alive, or whose agent is down while its endpoints run, stays,
// unless evenIfRunning.
func (m *Membership) Remove(ctx context.Context, nameOrID string, evenIfRunning bool, progress func(string)) error {
	name := nameOrID
	v := m.directory.View()
	dead, err := deadMembers(v, name, evenIfRunning)
	if err == nil && !evenIfRunning {
		err = checkNothingRuns(v, dead)
	}
	if err != nil {
		return err
	}
	progress("fencing " + name)
	ids, err := m.fence(ctx, name, dead)
	if err != nil {
		return err
	}
	m.directory.Forget(ids)
	progress("waiting until every member knows")
	m.awaitFence(ctx, ids)
	progress("freeing what " + name + " held")
	for _, id := range ids {
		blocks, addrs, err := m.records.FreeHeld(ctx, id)
		if err != nil {
			return err
		}
		m.cfg.Log.Info("host removed", discovery.LogMember(name, id), "blocks", blocks, "addrs", addrs)
	}
	return nil
}

// deadMembers are those that gossip knows under a name or an id. A living one is an
// error, but for the one that is to go even so: a host that does what it should not
// does not leave by itself.
func deadMembers(v discovery.View, nameOrID string, evenIfRunning bool) (dead []discovery.Member, err error) {
	calls := called(v, nameOrID)
	for _, o := range v.Members {
		switch {
		case o.Status == discovery.StatusLeft || !calls(o):
		case o.ID != v.Self && evenIfRunning && nameOrID != "":
			dead = append(dead, o)
		case o.Status == discovery.StatusAlive || o.Status == discovery.StatusSuspect:
			err = api.Errorf(api.KindConflict, "%s is alive at %s", o.Name, o.Gossip.Addr()).
				WithHint("agentctl leave # on %s\nagentctl leave --force %s --even-if-running # if it does not obey", o.Name, o.Name)
		default:
			dead = append(dead, o)
		}
	}
	if err != nil && len(dead) > 0 {
		err = api.Errorf(api.KindConflict, "a living host has the name %s as well", nameOrID).
			WithHint("agentctl leave --force %s # removes the dead one", dead[0].ID)
	}
	return dead, err
}

// checkNothingRuns refuses hosts whose kernel answers without an agent: traffic of their
// endpoints goes on, and their addresses would be given to others.
func checkNothingRuns(v discovery.View, hosts []discovery.Member) error {
	for _, o := range hosts {
		var runs []string
		for _, e := range v.Endpoints {
			if e.Host == o.ID && e.Runtime != discovery.RuntimeHost {
				runs = append(runs, e.Name)
			}
		}
		if o.Status == discovery.StatusAgentDown && len(runs) > 0 {
			return api.Errorf(api.KindConflict, "the agent of %s is down, and on it run %s: their addresses would be given to others", o.Name, some(runs)).
				WithHint("systemctl start agentd # on %s\nagentctl leave --force %s --even-if-running # cuts them off", o.Name, o.Name)
		}
	}
	return nil
}

// some are the first few names of many.
func some(names []string) string {
	const shown = 10
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// called says which members a word calls: by id, by the very name, else by the name in
// another spelling, as long as that is one. Members of an earlier release may differ
// in case alone.
func called(v discovery.View, nameOrID string) func(discovery.Member) bool {
	spelled := map[string]bool{}
	for _, o := range v.Members {
		if o.Status != discovery.StatusLeft && strings.EqualFold(o.Name, nameOrID) {
			spelled[o.Name] = true
		}
	}
	return func(o discovery.Member) bool {
		return o.ID.String() == strings.ToLower(nameOrID) || o.Name == nameOrID ||
			len(spelled) == 1 && spelled[o.Name]
	}
}

// fence removes from the pool the hosts that gossip calls dead. It does so by id: a
// wiped store may have lost their record, and another host may have their name by
// now. A host that gossip does not know is found in the pool by its name.
func (m *Membership) fence(ctx context.Context, name string, dead []discovery.Member) (ids []discovery.HostID, err error) {
	for _, o := range dead {
		if err := m.records.FenceLost(ctx, o.ID, o.Name, m.cfg.Host.Name); err != nil {
			return nil, err
		}
		ids = append(ids, o.ID)
	}
	if len(ids) > 0 {
		return ids, nil
	}
	h, err := m.records.Fence(ctx, name, m.cfg.Host.Name)
	return []discovery.HostID{h.ID}, err
}

// awaitFence waits until every alive member acknowledges the fences, at most
// 10 s: one that does not answer learns of it from the pool.
func (m *Membership) awaitFence(ctx context.Context, ids []discovery.HostID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		v := m.directory.View()
		own := v.Member(v.Self).Header.GoneHash
		var waiting []string
		for _, o := range v.Members {
			if !slices.Contains(ids, o.ID) && o.Status == discovery.StatusAlive && o.Header.GoneHash != own {
				waiting = append(waiting, o.Name)
			}
		}
		if len(waiting) == 0 {
			return
		}
		if !pace.Sleep(ctx, 20*time.Millisecond) {
			m.cfg.Log.Warn("not every member acknowledged the fence", "members", strings.Join(waiting, ", "))
			return
		}
	}
}
