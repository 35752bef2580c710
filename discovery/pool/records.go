package pool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// This file is the only place where keys of the store become values. A key that is
// not ours, or whose value could not have been written by an agent, is refused by
// itself: its reader passes over it, and refusals keep it for status.

// malformedError is a discovery.ErrMalformed with a text of its own.
type malformedError string

func (e malformedError) Error() string { return string(e) }
func (malformedError) Unwrap() error   { return discovery.ErrMalformed }

func malformed(format string, args ...any) error {
	return malformedError(fmt.Sprintf(format, args...))
}

// decode reads the value of a key; what does not fit is discovery.ErrMalformed.
func decode(kv *api.KVPair, v any) error {
	err := json.Unmarshal(kv.Value, v)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return malformed("its field %s cannot be %s", wrong.Field, wrong.Value)
	}
	return malformed("its value is none of weft's: %.40q", kv.Value)
}

// readAll reads all pairs of a folder. What is refused is noted, and what was
// refused before and is not any more is forgotten.
func readAll[T any](s *store, folder string, pairs api.KVPairs, parse func(*api.KVPair) (T, error)) []T {
	out, refused := parseAll(pairs, parse)
	s.refusals.folder(folder, refused)
	return out
}

func parseAll[T any](pairs api.KVPairs, parse func(*api.KVPair) (T, error)) (out []T, refused map[string]error) {
	out, refused = make([]T, 0, len(pairs)), map[string]error{}
	for _, kv := range pairs {
		v, err := parse(kv)
		if err != nil {
			refused[kv.Key] = err
			continue
		}
		out = append(out, v)
	}
	return out, refused
}

// readOne reads one pair; its error is a strict.Refused that names the key.
func readOne[T any](s *store, kv *api.KVPair, parse func(*api.KVPair) (T, error)) (T, error) {
	v, err := parse(kv)
	if err != nil || !strings.HasPrefix(kv.Key, folderNets) { // of networks the watch knows more
		s.refusals.key(kv.Key, err)
	}
	if err != nil {
		err = s.refusals.of(kv.Key, err)
	}
	return v, err
}

// parseMeta reads the record of a cluster. Of a newer schema the id alone is looked
// at: the rest may have another form.
func parseMeta(kv *api.KVPair) (m Meta, err error) {
	if err := decode(kv, &m); err != nil {
		return m, err
	}
	if m.ClusterID == "" {
		return m, malformed("its value names no cluster: %.40q", kv.Value)
	}
	if m.Schema > schema {
		return m, strict.Text("cluster", m.ClusterID)
	}
	if err := cmp.Or(strict.Text("cluster", m.ClusterID), strict.Domain(m.Domain), strict.AddressPool(m.Pool)); err != nil {
		return m, malformed("%v", err)
	}
	switch {
	case m.Profile != "lan" && m.Profile != "wan":
		return m, malformed("its profile %.40q is neither lan nor wan", m.Profile)
	case m.GossipPort == 0 || m.TunnelPort == 0 || m.GossipPort == m.TunnelPort:
		return m, malformed("its ports %d and %d are not two", m.GossipPort, m.TunnelPort)
	}
	return m, nil
}

func parseNet(kv *api.KVPair) (n netValue, err error) {
	name := strings.TrimPrefix(kv.Key, folderNets)
	if strict.NetworkName(name) != nil {
		return n, errNotOurs
	}
	if err := decode(kv, &n); err != nil {
		return n, err
	}
	if n.Name != name {
		return n, malformed("its value is that of network %.80q", n.Name)
	}
	if err := cmp.Or(strict.Network(n.Network), strict.Text("deleted by", n.DeletedBy)); err != nil {
		return n, malformed("%v", err)
	}
	return n, nil
}

func parseGen(kv *api.KVPair) (g genValue, err error) {
	if err := decode(kv, &g); err != nil {
		return genValue{}, err
	}
	return g, nil
}

// fence is one host that was removed.
type fence struct {
	id discovery.HostID
	GoneBy
}

func parseGone(kv *api.KVPair) (g fence, err error) {
	if g.id, err = parseHostKey(kv.Key, folderGone); err != nil {
		return g, err
	}
	var v goneValue
	if err := decode(kv, &v); err != nil {
		return g, err
	}
	g.GoneBy = GoneBy(v)
	return g, checkGone(g.GoneBy)
}

// tombstone is one network that was deleted.
type tombstone struct {
	id discovery.NetworkID
	GoneBy
}

func parseNetGone(kv *api.KVPair) (g tombstone, err error) {
	if g.id.UnmarshalText([]byte(strings.TrimPrefix(kv.Key, folderNetGone))) != nil || netGoneKey(g.id) != kv.Key {
		return g, errNotOurs
	}
	var v netGoneValue
	if err := decode(kv, &v); err != nil {
		return g, err
	}
	g.GoneBy = GoneBy{v.Name, v.By, v.At}
	return g, checkGone(g.GoneBy)
}

func checkGone(g GoneBy) error {
	if err := cmp.Or(strict.Text("name", g.Name), strict.Text("by", g.By)); err != nil {
		return malformed("%v", err)
	}
	return nil
}

func parseBlock(kv *api.KVPair) (discovery.Block, error) {
	id, prefix, err := parseBlockKey(kv.Key)
	if err != nil {
		return discovery.Block{}, err
	}
	var v blockValue
	if err := decode(kv, &v); err != nil {
		return discovery.Block{}, err
	}
	if v.Host.IsZero() {
		return discovery.Block{}, malformed("its value names no host")
	}
	return discovery.Block{Network: id, Prefix: prefix, Host: v.Host, State: v.State, Seq: v.Seq, Index: kv.ModifyIndex}, nil
}

// blockOf reads the blocks of one network: what lies outside its grid was never
// claimed by an agent. Of a network that was deleted the id alone is known.
func blockOf(n discovery.Network) func(*api.KVPair) (discovery.Block, error) {
	return func(kv *api.KVPair) (discovery.Block, error) {
		b, err := parseBlock(kv)
		if err != nil {
			return b, err
		}
		if s, ok := n.Covering(b.Prefix.Addr()); len(n.Subnets) > 0 && !(ok && s.Claimable(b.Prefix)) {
			return b, malformed("%s is no block of network %s", b.Prefix, n.Name)
		}
		return b, nil
	}
}

// reserved is one address that is recorded for a host.
type reserved struct {
	addr netip.Addr
	discovery.Reservation
	index uint64
}

func parseReservation(kv *api.KVPair) (r reserved, err error) {
	if _, r.addr, err = parseIPKey(kv.Key); err != nil {
		return r, err
	}
	var v ipValue
	if err := decode(kv, &v); err != nil {
		return r, err
	}
	if v.Host.IsZero() {
		return r, malformed("its value names no host")
	}
	r.Reservation, r.index = discovery.Reservation{Host: v.Host, Seq: v.Seq}, kv.ModifyIndex
	return r, nil
}

func parseHost(kv *api.KVPair) (h Host, err error) {
	id, err := parseHostKey(kv.Key, folderHosts)
	if err != nil {
		return h, err
	}
	var v hostValue
	if err := decode(kv, &v); err != nil {
		return h, err
	}
	if err := checkHost(v); err != nil {
		return h, malformed("%v", err)
	}
	return Host{id, v.Name, v.Nonce, v.VTEP, v.Gossip, v.Version, v.Incarnation, v.Joined, v.Machine}, nil
}

func checkHost(v hostValue) error {
	if !strict.Label(v.Name) {
		return strict.Invalidf("host name %.80q is no DNS label: letters, digits, - and _, at most 63", v.Name)
	}
	return cmp.Or(strict.HostAddr("vtep", v.VTEP), strict.HostAddr("gossip", v.Gossip.Addr()),
		strict.Text("version", v.Version), strict.Text("machine_hint", v.Machine))
}

func parseName(kv *api.KVPair) (id discovery.HostID, err error) {
	if !strict.Label(strings.TrimPrefix(kv.Key, folderNames)) {
		return id, errNotOurs
	}
	if err := id.UnmarshalText(kv.Value); err != nil {
		return id, malformed("its value is no host id")
	}
	return id, nil
}
