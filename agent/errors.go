package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/overlay"
)

// noNetwork is the error of every request that names an unknown network.
func noNetwork(name string) error {
	return api.Errorf(api.KindNotFound, "no network %s", name).WithHint("agentctl network ls; agentctl network create %s", name)
}

// explain turns an error of the parts into the one that the user reads: what
// was asked, why it failed, what to type next. It returns nil for nil.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		if !strings.HasPrefix(e.Message, what) {
			return &api.Error{Kind: e.Kind, Message: what + ": " + e.Message, Hint: e.Hint}
		}
		return e
	}
	out := api.Errorf(api.KindFailed, "%s: %v", what, err)
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			out.Kind, out.Hint = r.kind, r.hint
			break
		}
	}
	return out
}

// remedies are the errors that a user can do something about.
var remedies = []struct {
	err  error
	kind api.Kind
	hint string
}{
	{pool.ErrPermission, api.KindPermission, "give the agent a Consul token that may write the prefix: consul.token_file in agentd.yaml"},
	{pool.ErrUnavailable, api.KindFailed, "agentctl status shows the store; what is attached goes on, try again when it answers"},
	{discovery.ErrStoreAway, api.KindFailed, "agentctl status shows the store; what is attached goes on, try again when it answers"},
	{discovery.ErrFull, api.KindConflict, "detach what is not needed, or make a larger network: agentctl network create --subnet"},
	{ipam.ErrReserved, api.KindConflict, "agentctl network inspect shows what the network keeps for itself"},
	{ipam.ErrDeleting, api.KindConflict, "agentctl network ls"},
	{pool.ErrDeleting, api.KindConflict, "agentctl network ls"},
	{pool.ErrNotFound, api.KindNotFound, "agentctl members; agentctl network ls"},
	{pool.ErrInvalid, api.KindMisuse, "agentctl network create --help"},
	{pool.ErrExists, api.KindConflict, "agentctl network ls"},
	{pool.ErrForgotten, api.KindConflict, "agentctl join ADDRESS --token-file FILE --replace"},
	{pool.ErrNoCluster, api.KindConflict, "agentctl init makes one"},
	{ErrConfig, api.KindMisuse, "agentd config print-default shows every key with its form"},
	{errDataDirTaken, api.KindConflict, "stop the other agent, or give this one a --data-dir and --run-dir of its own"},
	{errOtherMachine, api.KindConflict, "several machines share a Consul: on the first host agentctl init --consul http://ADDRESS:8500 (README, Two real hosts)"},
	{gossip.ErrWrongKey, api.KindConflict, "take the token of agentctl init on a host of that cluster"},
	{gossip.ErrOtherCluster, api.KindConflict, "take the token of agentctl init on a host of that cluster"},
	{gossip.ErrUnreachable, api.KindFailed, "open the gossip port in the firewall, tcp and udp, in both directions"},
	{syscall.EADDRINUSE, api.KindConflict, "ss -lntup shows who has the port; gossip_port and tunnel_port in agentd.yaml choose another"},
	{syscall.EADDRNOTAVAIL, api.KindMisuse, "give an address of this host: agentd --advertise"},
	{overlay.ErrIfnameTaken, api.KindConflict, "choose another name: --ifname"},
	{overlay.ErrPortTaken, api.KindConflict, "ss -lunp shows who has the port; tunnel_port in agentd.yaml chooses another"},
	{overlay.ErrTooManyPorts, api.KindConflict, "attach it on another host"},
	{ipam.ErrOutside, api.KindMisuse, "agentctl network inspect shows the subnet"},
	{os.ErrPermission, api.KindPermission, "run agentd as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"},
	{context.DeadlineExceeded, api.KindTimeout, "agentctl status"},
}

// explain adds to the package's explain what only a member can say: the names
// behind ids.
func (s *session) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	v := s.directory.View()
	if e, ok := errors.AsType[*pool.OverlapError](err); ok && e.Next.IsValid() {
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("the next free one is --subnet %s", e.Next)
	}
	if _, ok := errors.AsType[*ipam.TakenError](err); ok {
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("choose another --ip, or none; agentctl endpoint ls")
	}
	if e, ok := errors.AsType[*ipam.AwayError](err); ok {
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("if that host is gone for good: agentctl leave --force %s", e.HostName)
	}
	if e, ok := errors.AsType[*discovery.TakenError](err); ok {
		return api.Errorf(api.KindConflict, "%s: %s is held by host %s", what, e.Addr, memberName(v, e.Host)).WithHint("agentctl endpoint ls")
	}
	if e, ok := errors.AsType[*pool.NameTakenError](err); ok {
		return api.Errorf(api.KindConflict, "%s: the name %s belongs to the host at %s", what, e.Holder.Name, e.Holder.VTEP).
			WithHint("choose another (agentd --name); if that host is dead: agentctl join … --replace")
	}
	if e, ok := errors.AsType[*pool.ExistsError](err); ok {
		return s.existing(what, e)
	}
	return explain(what, err)
}

// existing says which cluster a prefix holds already.
func (s *session) existing(what string, e *pool.ExistsError) error {
	var names []string
	for _, h := range e.Hosts {
		names = append(names, h.Name)
	}
	if len(names) == 0 {
		return api.Errorf(api.KindConflict, "%s: the store holds cluster %s, without hosts", what, e.Meta.ClusterID).
			WithHint("agentctl init --adopt takes it over, networks and all")
	}
	return api.Errorf(api.KindConflict, "%s: the store holds cluster %s of %s", what, e.Meta.ClusterID, strings.Join(names, ", ")).
		WithHint("agentctl join %s --token-file FILE, with the token of %s", e.Hosts[0].VTEP, e.Hosts[0].Name)
}
