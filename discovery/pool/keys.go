package pool

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-net/weft/discovery"
)

// Keys and folders below the prefix.
const (
	keyMeta       = "meta" // the cluster; made once
	keyGen        = "gen"  // changed by every creation and deletion of a network
	folderNets    = "nets/"
	folderNetGone = "netgone/"
	folderVNIs    = "vnis/"
	folderBlocks  = "blocks/"
	folderIPs     = "ips/"
	folderHosts   = "hosts/"
	folderNames   = "names/"
	folderGone    = "gone/"
)

func netKey(name string) string                { return folderNets + name }
func netGoneKey(id discovery.NetworkID) string { return folderNetGone + id.String() }
func vniKey(vni uint32) string                 { return folderVNIs + strconv.FormatUint(uint64(vni), 10) }
func hostKey(id discovery.HostID) string       { return folderHosts + id.String() }
func goneKey(id discovery.HostID) string       { return folderGone + id.String() }

// nameKey is one key for all spellings of a host name: names are compared without
// case, as in DNS (RFC 4343).
func nameKey(name string) string { return folderNames + strings.ToLower(name) }

func blocksOf(id discovery.NetworkID) string   { return folderBlocks + id.String() + "/" }
func reservedOf(id discovery.NetworkID) string { return folderIPs + id.String() + "/" }
func addrHex(a netip.Addr) string              { return hex.EncodeToString(a.AsSlice()) }

// blockKey is one key per place of the network's grid: that it exists means
// that the block is claimed.
func blockKey(id discovery.NetworkID, b netip.Prefix) string {
	return blocksOf(id) + addrHex(b.Addr()) + "-" + strconv.Itoa(b.Bits())
}

func ipKey(id discovery.NetworkID, a netip.Addr) string { return reservedOf(id) + addrHex(a) }

// parseBlockKey reads what blockKey wrote, and nothing else: a second form of a
// key would be a second claim of one block.
func parseBlockKey(key string) (id discovery.NetworkID, b netip.Prefix, err error) {
	id, rest, err := parseNetKey(key, folderBlocks)
	if err != nil {
		return id, b, err
	}
	start, length, _ := strings.Cut(rest, "-")
	a, err := parseHex(start)
	if err != nil {
		return id, b, errNotOurs
	}
	n, err := strconv.Atoi(length)
	if err != nil {
		return id, b, errNotOurs
	}
	if b = netip.PrefixFrom(a, n); !b.IsValid() || b != b.Masked() || blockKey(id, b) != key {
		return id, b, errNotOurs
	}
	return id, b, nil
}

// parseIPKey reads what ipKey wrote.
func parseIPKey(key string) (id discovery.NetworkID, a netip.Addr, err error) {
	id, rest, err := parseNetKey(key, folderIPs)
	if err != nil {
		return id, a, err
	}
	if a, err = parseHex(rest); err != nil || ipKey(id, a) != key {
		return id, a, errNotOurs
	}
	return id, a, nil
}

// parseNetKey cuts the folder and the network's id off a key.
func parseNetKey(key, folder string) (id discovery.NetworkID, rest string, err error) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(key, folder), "/")
	if !ok || !strings.HasPrefix(key, folder) || id.UnmarshalText([]byte(name)) != nil || id.String() != name {
		return id, "", errNotOurs
	}
	return id, rest, nil
}

// parseHostKey reads the host id behind the folder.
func parseHostKey(key, folder string) (id discovery.HostID, err error) {
	if id.UnmarshalText([]byte(strings.TrimPrefix(key, folder))) != nil || folder+id.String() != key {
		return id, errNotOurs
	}
	return id, nil
}

// parseHex reads the bytes of an address.
func parseHex(s string) (netip.Addr, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return netip.Addr{}, err
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok || a.Is4In6() { // that would be a second form of an IPv4 address
		return netip.Addr{}, discovery.ErrMalformed
	}
	return a, nil
}

// errNotOurs is about a key that weft never writes: a folder that somebody made, a
// note that somebody left.
var errNotOurs = malformed("weft has no such key")
