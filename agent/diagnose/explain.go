package diagnose

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

// Explain turns an error of the parts into the one that the user reads: what
// was asked, why it failed, what to type next. It returns nil for nil.
func Explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		if !strings.HasPrefix(e.Message, what) {
			return &api.Error{Kind: e.Kind, Message: what + ": " + e.Message, Hint: e.Hint}
		}
		return e
	}
	if r, ok := errors.AsType[strict.Refused](err); ok {
		return &api.Error{Kind: api.KindConflict, Message: what + ": " + err.Error(), Hint: r.Hint}
	}
	if e, ok := errors.AsType[*datadir.UnsafeError](err); ok {
		return api.Errorf(api.KindPermission, "%s: %v", what, err).WithHint("%s", e.Mend)
	}
	if e, ok := errors.AsType[*boltfile.WriteError](err); ok {
		return api.Errorf(api.KindFailed, "%s: %v", what, err).WithHint("%s", DiskHint(e))
	}
	out := api.Errorf(api.KindFailed, "%s: %v", what, err)
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			out.Kind, out.Hint = r.kind, r.hint
			break
		}
	}
	if r, ok := errors.AsType[*overlay.Remedy](err); ok {
		out.Hint = r.Command
	}
	return out
}

// remedies are the errors that a user can do something about.
var remedies = []struct {
	err  error
	kind api.Kind
	hint string
}{
	{pool.ErrPermission, api.KindPermission, "agentd config print-default # consul.token_file: an ACL token that may write the prefix"},
	{pool.ErrNotConsul, api.KindFailed, "agentd config print-default # consul.url: where Consul's HTTP API answers, without a path"},
	{pool.ErrUnavailable, api.KindFailed, "agentctl status --wait # what is attached goes on; try again when the store answers"},
	{pool.ErrReadOnly, api.KindFailed, "df -h # make room for the file of the store, or mount its disk writable again"},
	{discovery.ErrStoreAway, api.KindFailed, "agentctl status --wait # what is attached goes on; try again when the store answers"},
	{discovery.ErrFull, api.KindConflict, "agentctl network create NAME --subnet CIDR # a larger one; or detach what is not needed"},
	{ipam.ErrReserved, api.KindConflict, "agentctl network inspect NETWORK # shows what the network keeps for itself"},
	{ipam.ErrDeleting, api.KindConflict, "agentctl network ls"},
	{pool.ErrDeleting, api.KindConflict, "agentctl network ls"},
	{pool.ErrNotFound, api.KindNotFound, "agentctl members\nagentctl network ls"},
	{pool.ErrInvalid, api.KindMisuse, "agentctl network create --help"},
	{pool.ErrExists, api.KindConflict, "agentctl network ls"},
	{pool.ErrForgotten, api.KindConflict, "agentctl join ADDRESS --token-file FILE --replace"},
	{pool.ErrOtherCluster, api.KindConflict, "agentd config print-default # consul.url and consul.prefix: where the store of this cluster is"},
	{pool.ErrNoCluster, api.KindConflict, "agentctl init"},
	{config.ErrInvalid, api.KindMisuse, "agentd config print-default # shows every key with its form"},
	{config.ErrRestart, api.KindFailed, "systemctl restart agentd # what is attached goes on"},
	{datadir.ErrTaken, api.KindConflict, "agentd --data-dir DIR --run-dir DIR # of its own; or stop the other agent"},
	{membership.ErrOtherMachine, api.KindConflict, "agentctl init --consul http://ADDRESS:8500 # on the first host: several machines share a Consul"},
	{gossip.ErrWrongKey, api.KindConflict, "agentctl join ADDRESS --token-file FILE # with the token that agentctl init left on a host of that cluster"},
	{gossip.ErrOtherCluster, api.KindConflict, "agentctl join ADDRESS --token-file FILE # with the token that agentctl init left on a host of that cluster"},
	{gossip.ErrUnreachable, api.KindFailed, "nft list ruleset # on both hosts: the gossip port must pass, tcp and udp, in both directions"},
	{syscall.EADDRINUSE, api.KindConflict, "ss -lntup # shows who has the port; gossip_port and tunnel_port in agentd.yaml choose another"},
	{syscall.EADDRNOTAVAIL, api.KindMisuse, "agentd --advertise ADDRESS # one of this host"},
	{overlay.ErrIfnameTaken, api.KindConflict, "agentctl attach --help # --ifname chooses another name"},
	{overlay.ErrForeign, api.KindConflict, "ip -d link # rename that device or delete it"},
	{overlay.ErrFabric, api.KindMisuse, "agentctl network create NAME -o host_access=full # lets the host reach every endpoint"},
	{overlay.ErrPortTaken, api.KindConflict, "ss -lunp # shows who has the port; tunnel_port in agentd.yaml chooses another"},
	{overlay.ErrTooManyPorts, api.KindConflict, "agentctl members # attach it on another host"},
	{ipam.ErrOutside, api.KindMisuse, "agentctl network inspect NETWORK # shows the subnet"},
	{errors.ErrUnsupported, api.KindFailed, "agentctl doctor # says what this kernel lacks"},
	{overlay.ErrNoNFT, api.KindFailed, "apt install nftables"},
	{os.ErrPermission, api.KindPermission, "sudo agentd # or with CAP_NET_ADMIN and CAP_SYS_ADMIN"},
	{context.DeadlineExceeded, api.KindTimeout, "agentctl status"},
}

// ExplainTo is Explain for a member, which knows the names behind ids.
func ExplainTo(v discovery.View, what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*pool.OverlapError](err); ok {
		if e.Next.IsValid() {
			return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("%s --subnet %s # the next free one", "agentctl "+what, e.Next)
		}
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("%s # without --subnet it gets one that is free", "agentctl "+what)
	}
	if e, ok := errors.AsType[*ipam.TakenError](err); ok {
		if e.Name == "" && e.HostName != "" { // no endpoint is announced there
			return api.Errorf(api.KindConflict, "%s: %v", what, err).
				WithHint("docker ps -a # on %s: a container that is stopped keeps its --ip; choose another address, or none", e.HostName)
		}
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("agentctl endpoint ls # shows who has it: choose another --ip, or none")
	}
	if e, ok := errors.AsType[*ipam.AwayError](err); ok {
		return api.Errorf(api.KindConflict, "%s: %v", what, err).WithHint("agentctl leave --force %s # if that host is gone for good", e.HostName)
	}
	if e, ok := errors.AsType[*discovery.TakenError](err); ok {
		return api.Errorf(api.KindConflict, "%s: %s is held by host %s", what, e.Addr, v.MemberName(e.Host)).WithHint("agentctl endpoint ls")
	}
	if e, ok := errors.AsType[*pool.NameTakenError](err); ok {
		return api.Errorf(api.KindConflict, "%s: the name %s belongs to the host at %s", what, e.Host.Name, e.Host.VTEP).
			WithHint("agentctl join ADDRESS --token-file FILE --replace # if that host is dead\nagentd --name NAME # another one, if it is not")
	}
	if e, ok := errors.AsType[*pool.ExistsError](err); ok {
		return existing(what, e)
	}
	return Explain(what, err)
}

// existing says which cluster a prefix holds already.
func existing(what string, e *pool.ExistsError) error {
	var names []string
	for _, h := range e.Hosts {
		names = append(names, h.Name)
	}
	if len(names) == 0 {
		return api.Errorf(api.KindConflict, "%s: the store holds cluster %s, without hosts", what, e.Meta.ClusterID).
			WithHint("agentctl init --adopt # takes it over, networks and all")
	}
	return api.Errorf(api.KindConflict, "%s: the store holds cluster %s of %s", what, e.Meta.ClusterID, strings.Join(names, ", ")).
		WithHint("agentctl join %s --token-file FILE # with the token of %s\nman weft-operations # DISASTER: if all of them are gone for good", e.Hosts[0].VTEP, e.Hosts[0].Name)
}
