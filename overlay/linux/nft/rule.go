package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rule is one rule as the kernel tells it. Its expressions are compared as the
// bytes that they are: one of a kind that nobody here has ever heard of differs
// like any other.
type rule struct {
	handle uint64
	exprs  []expression
	// What its counter has counted, which is nothing in which rules differ.
	packets, bytes uint64
}

// expression is a step of a rule: what it does, and the kernel's attributes for
// how.
type expression struct{ kind, data string }

func (r rule) equal(other rule) bool { return slices.Equal(r.exprs, other.exprs) }

// String names the steps, as far as a word for each goes.
func (r rule) String() string {
	kinds := make([]string, len(r.exprs))
	for i, e := range r.exprs {
		kinds[i] = e.kind
	}
	return strings.Join(kinds, " ")
}

const nfHeader = 4 // struct nfgenmsg

// repeats bounds how often a dump is begun anew because somebody changes the
// table meanwhile.
const repeats = 20

var errInterrupted = errors.New("dump interrupted by changes")

// dumpRules reads the rules of a table by the names of their chains, in order
// (linux/netfilter/nf_tables.h). The library's own dump leaves out what it does
// not know.
func dumpRules(c *netlink.Conn, of nftables.Table) (rules map[string][]rule, err error) {
	name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(of.Name + "\x00")}})
	if err != nil {
		return nil, err
	}
	request := netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(of.Family), unix.NFNETLINK_V0, 0, 0}, name...),
	}
	for range repeats {
		var all []netlink.Message
		if all, err = c.Execute(request); err != nil {
			return nil, fmt.Errorf("dump rules: %w", err)
		}
		if rules, err = parseRules(all); !errors.Is(err, errInterrupted) {
			return rules, err
		}
	}
	return nil, err
}

func parseRules(all []netlink.Message) (map[string][]rule, error) {
	rules := map[string][]rule{}
	for _, m := range all {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return nil, errInterrupted
		}
		chain, r, err := parseRule(m)
		if err != nil {
			return nil, fmt.Errorf("read a rule: %w", err)
		}
		rules[chain] = append(rules[chain], r)
	}
	return rules, nil
}

func parseRule(m netlink.Message) (chain string, r rule, err error) {
	if len(m.Data) < nfHeader {
		return "", r, unix.EINVAL
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[nfHeader:])
	if err != nil {
		return "", r, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_CHAIN:
			chain = ad.String()
		case unix.NFTA_RULE_HANDLE:
			r.handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					ad.Nested(func(ad *netlink.AttributeDecoder) error {
						e := parseExpression(ad)
						if e.kind == "counter" {
							r.counted([]byte(e.data))
							e.data = ""
						}
						r.exprs = append(r.exprs, e)
						return nil
					})
				}
				return nil
			})
		}
	}
	return chain, r, ad.Err()
}

// parseExpression reads an expression.
func parseExpression(ad *netlink.AttributeDecoder) (e expression) {
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			e.kind = ad.String()
		case unix.NFTA_EXPR_DATA:
			e.data = string(ad.Bytes())
		}
	}
	return e
}
