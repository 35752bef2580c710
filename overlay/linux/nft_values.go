package linux

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// notation turns a value between its text and the bytes in a register.
type notation struct {
	parse  func(string) ([]byte, error)
	format func([]byte) string
}

// enum is the notation of a value that has a word for everything we use.
func enum(words map[string][]byte) notation {
	return notation{
		parse: func(s string) ([]byte, error) {
			if b, ok := words[s]; ok {
				return b, nil
			}
			return nil, fmt.Errorf("unknown value %q", s)
		},
		format: func(b []byte) string {
			for word, value := range words {
				if bytes.Equal(b, value) {
					return word
				}
			}
			return raw(b)
		},
	}
}

// raw shows bytes that have no better name.
func raw(b []byte) string { return "0x" + hex.EncodeToString(b) }

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

var (
	familyNames   = enum(map[string][]byte{"ipv4": {2}, "ipv6": {10}})
	protocolNames = enum(map[string][]byte{"icmp": {1}, "tcp": {6}, "udp": {17}, "ipv6-icmp": {58}})
	etherNames    = enum(map[string][]byte{"ip": {0x08, 0x00}, "arp": {0x08, 0x06}, "ip6": {0x86, 0xdd}})
	icmpNames     = enum(map[string][]byte{"echo-request": {8}})
	routeNames    = enum(map[string][]byte{"unicast": native(1), "local": native(2)})
	icmp6Names    = enum(map[string][]byte{
		"echo-request": {128}, "nd-router-advert": {134}, "nd-neighbor-solicit": {135},
		"nd-neighbor-advert": {136}, "nd-redirect": {137},
	})
)

// bit is the name of one bit of a value.
type bit struct {
	name string
	bit  uint32
}

// What connection tracking knows, of which a match takes any
// (linux/netfilter/nf_conntrack_common.h).
var (
	states   = bits("state", []bit{{"invalid", 1}, {"established", 2}, {"related", 4}, {"new", 8}, {"untracked", 64}})
	statuses = bits("status", []bit{{"snat", 16}, {"dnat", 32}})
)

// bits is the notation of a value whose bits have names.
func bits(what string, names []bit) notation {
	return notation{
		parse: func(s string) ([]byte, error) {
			var mask uint32
			for word := range strings.SplitSeq(s, ",") {
				i := slices.IndexFunc(names, func(b bit) bool { return b.name == word })
				if i < 0 {
					return nil, fmt.Errorf("unknown connection %s %q", what, word)
				}
				mask |= names[i].bit
			}
			return native(mask), nil
		},
		format: func(b []byte) string {
			if len(b) != 4 {
				return raw(b)
			}
			mask := binary.NativeEndian.Uint32(b)
			var words []string
			for _, n := range names {
				if mask&n.bit != 0 {
					words = append(words, n.name)
					mask &^= n.bit
				}
			}
			if mask != 0 || len(words) == 0 {
				return raw(b)
			}
			return strings.Join(words, ",")
		},
	}
}

// groups are device groups and masks of them.
var groups = notation{
	parse: func(s string) ([]byte, error) {
		v, err := strconv.ParseUint(s, 0, 32)
		return native(uint32(v)), err
	},
	format: func(b []byte) string {
		if len(b) != 4 {
			return raw(b)
		}
		return fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))
	},
}

var ports = notation{
	parse: func(s string) ([]byte, error) {
		v, err := strconv.ParseUint(s, 10, 16)
		return binary.BigEndian.AppendUint16(nil, uint16(v)), err
	},
	format: func(b []byte) string {
		if len(b) != 2 {
			return raw(b)
		}
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	},
}

const ifnameSize = 16 // IFNAMSIZ (linux/if.h)

// devices are quoted names. One that ends in * is compared as a prefix.
var devices = notation{
	parse: func(s string) ([]byte, error) {
		name, err := strconv.Unquote(s)
		if err != nil || len(name) >= ifnameSize {
			return nil, fmt.Errorf("bad device name %s", s)
		}
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			return []byte(prefix), nil
		}
		return deviceKey(name), nil
	},
	format: func(b []byte) string {
		if len(b) < ifnameSize {
			return strconv.Quote(string(b) + "*")
		}
		return strconv.Quote(deviceName(b))
	},
}

func deviceKey(name string) []byte {
	return append([]byte(name), make([]byte, ifnameSize-len(name))...)
}

func deviceName(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}

// addresses are single ones, or prefixes of whole bytes: of those only the
// bytes that count are loaded.
var addresses = notation{
	parse: func(s string) ([]byte, error) {
		if !strings.Contains(s, "/") {
			a, err := netip.ParseAddr(s)
			return a.AsSlice(), err
		}
		p, err := netip.ParsePrefix(s)
		if err == nil && p.Bits()%8 != 0 {
			err = fmt.Errorf("prefix %s is not one of whole bytes", s)
		}
		if err != nil {
			return nil, err
		}
		return p.Addr().AsSlice()[:p.Bits()/8], nil
	},
	format: func(b []byte) string {
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
		var full [4]byte
		if copy(full[:], b) < len(b) {
			return raw(b)
		}
		return netip.PrefixFrom(netip.AddrFrom4(full), 8*len(b)).String()
	},
}

// opaque is for what is only ever part of a set's key.
var opaque = notation{
	parse:  func(s string) ([]byte, error) { return nil, fmt.Errorf("no notation for %q", s) },
	format: raw,
}
