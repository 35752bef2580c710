package linux

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// knob is an attribute of a device that has one right value. The tables below are
// what is compared and what is set: an attribute that an older kernel does not list
// deviates in nothing.
type knob struct {
	attr int
	name string // as ip-link(8) and bridge(8) have it
	size int    // bytes
	want uint32
}

// bridgeKnobs: with spanning tree a port is dead for half a minute, with VLANs each
// static FDB entry is two, with a netfilter hook frames meet rules of others, and a
// group mask passes on what no bridge may.
var bridgeKnobs = []knob{
	{unix.IFLA_BR_STP_STATE, "stp_state", 4, 0},
	{unix.IFLA_BR_FORWARD_DELAY, "forward_delay", 4, 0},
	{unix.IFLA_BR_AGEING_TIME, "ageing_time", 4, 0},
	{unix.IFLA_BR_VLAN_FILTERING, "vlan_filtering", 1, 0},
	{unix.IFLA_BR_VLAN_DEFAULT_PVID, "vlan_default_pvid", 2, 0},
	{unix.IFLA_BR_GROUP_FWD_MASK, "group_fwd_mask", 2, 0},
	{unix.IFLA_BR_MCAST_SNOOPING, "mcast_snooping", 1, 0},
	{unix.IFLA_BR_MCAST_QUERIER, "mcast_querier", 1, 0},
	{unix.IFLA_BR_NF_CALL_IPTABLES, "nf_call_iptables", 1, 0},
	{unix.IFLA_BR_NF_CALL_IP6TABLES, "nf_call_ip6tables", 1, 0},
	{unix.IFLA_BR_NF_CALL_ARPTABLES, "nf_call_arptables", 1, 0},
}

// portKnobs are those of every bridge port, beside the two floods of a BridgePort. A port that learns believes forged sources; one that is locked,
// isolated, or guarded drops frames; one that suppresses or proxies answers for
// others; one in hairpin mode sends frames back.
var portKnobs = []knob{
	{unix.IFLA_BRPORT_LEARNING, "learning", 1, 0},
	{unix.IFLA_BRPORT_BCAST_FLOOD, "bcast_flood", 1, 1},
	{unix.IFLA_BRPORT_MODE, "hairpin", 1, 0},
	{unix.IFLA_BRPORT_GUARD, "guard", 1, 0},
	{unix.IFLA_BRPORT_PROTECT, "root_block", 1, 0},
	{unix.IFLA_BRPORT_FAST_LEAVE, "fastleave", 1, 0},
	{unix.IFLA_BRPORT_PROXYARP, "proxy_arp", 1, 0},
	{unix.IFLA_BRPORT_PROXYARP_WIFI, "proxy_arp_wifi", 1, 0},
	{unix.IFLA_BRPORT_MCAST_TO_UCAST, "mcast_to_unicast", 1, 0},
	{unix.IFLA_BRPORT_VLAN_TUNNEL, "vlan_tunnel", 1, 0},
	{unix.IFLA_BRPORT_GROUP_FWD_MASK, "group_fwd_mask", 2, 0},
	{unix.IFLA_BRPORT_NEIGH_SUPPRESS, "neigh_suppress", 1, 0},
	{unix.IFLA_BRPORT_ISOLATED, "isolated", 1, 0},
	{unix.IFLA_BRPORT_MAB, "mab", 1, 0},
	{unix.IFLA_BRPORT_LOCKED, "locked", 1, 0},
	{unix.IFLA_BRPORT_NEIGH_VLAN_SUPPRESS, "neigh_vlan_suppress", 1, 0},
	{unix.IFLA_BRPORT_BACKUP_PORT, "backup_port", 4, 0},
}

// tunnelKnobs can be changed in place. Those of tunnelIdentity cannot: a device with
// another value is made anew.
var (
	tunnelKnobs = []knob{
		{unix.IFLA_VXLAN_TTL, "ttl", 1, tunnelTTL},
		{unix.IFLA_VXLAN_TOS, "tos", 1, 0},
		{unix.IFLA_VXLAN_LEARNING, "learning", 1, 0},
		{unix.IFLA_VXLAN_LINK, "dev", 4, 0},
		{unix.IFLA_VXLAN_DF, "df", 1, 0},
	}
	tunnelIdentity = []knob{
		{unix.IFLA_VXLAN_PROXY, "proxy", 1, 1},
		{unix.IFLA_VXLAN_RSC, "rsc", 1, 0},
		{unix.IFLA_VXLAN_L2MISS, "l2miss", 1, 0},
		{unix.IFLA_VXLAN_L3MISS, "l3miss", 1, 0},
		{unix.IFLA_VXLAN_COLLECT_METADATA, "external", 1, 0},
	}
)

// deviating are the attributes in a nest that have another value than ours, and a text
// that names them with that value.
func deviating(nest []byte, knobs []knob) (wrong []knob, text string) {
	for typ, data := range attributes(nest, 0) {
		for _, k := range knobs {
			if k.attr == int(typ) && len(data) == k.size && value(data) != k.want {
				wrong = append(wrong, k)
				text = words(text, fmt.Sprintf("%s %d", k.name, value(data)))
			}
		}
	}
	return wrong, text
}

// words joins what is not empty.
func words(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}

// value reads a number of one, two or four bytes.
func value(data []byte) uint32 {
	switch len(data) {
	case 1:
		return uint32(data[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(data))
	}
	return asU32(data)
}

// add puts the right value into a request.
func (k knob) add(nest *nl.RtAttr) {
	nest.AddRtAttr(k.attr, binary.NativeEndian.AppendUint32(nil, k.want)[:k.size])
}

// newPort are the attributes of a port that is made: the others have their values from
// the kernel.
func newPort(p overlay.BridgePort) []knob {
	return append(portKnobs[:2:2],
		knob{unix.IFLA_BRPORT_UNICAST_FLOOD, "flood", 1, number(p.Flood)},
		knob{unix.IFLA_BRPORT_MCAST_FLOOD, "mcast_flood", 1, number(p.MulticastFlood)})
}
