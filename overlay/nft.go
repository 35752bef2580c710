package overlay

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"
)

// NFTable is an nftables table of ours with everything in it but the elements
// of its sets. It is replaced as a whole, in one transaction.
type NFTable struct {
	Place  Place
	Family string // "inet" in the host, "bridge" in the fabric
	Name   string
	// Rules are the sets and the chains in the language of nft(8): sets before
	// chains, each kind by name, one statement a line, indented by tabs. Every
	// match is spelled out, so that each word is one kernel expression.
	Rules string
}

// nfTableKey is the kernel's index of tables.
type nfTableKey struct {
	Place        Place
	Family, Name string
}

// Key is the table's name.
func (t NFTable) Key() Key { return nfTableKey{t.Place, t.Family, t.Name} }

// Rank places tables before everything that they guard.
func (t NFTable) Rank() Rank { return RankTable }

// String is the nft(8) command that makes the table, with its number of rules
// and a digest of them. Text has the rules.
func (t NFTable) String() string {
	sum := fnv.New32a()
	sum.Write([]byte(t.Rules))
	return fmt.Sprintf("%s add table %s %s # %d rules, %08x", t.Place.nft(), t.Family, t.Name, t.rules(), sum.Sum32())
}

// Deletion is the command that removes the table.
func (t NFTable) Deletion() string {
	return fmt.Sprintf("%s delete table %s %s", t.Place.nft(), t.Family, t.Name)
}

// Text is the table as nft(8) reads it from a file.
func (t NFTable) Text() string {
	return fmt.Sprintf("table %s %s {\n%s}\n", t.Family, t.Name, t.Rules)
}

// rules counts the statements in chains.
func (t NFTable) rules() (n int) {
	chain := false
	for line := range strings.Lines(t.Rules) {
		switch {
		case strings.HasPrefix(line, "\t\t"):
			if chain && !strings.HasPrefix(line, "\t\ttype ") {
				n++
			}
		default:
			chain = strings.HasPrefix(line, "\tchain ")
		}
	}
	return n
}

// NFElement is one element of a set or a map of our table in its place. The
// parts from Dev to Port that are not zero make its key, in the order of the
// fields; ToAddr and ToPort are what a map holds under it.
type NFElement struct {
	Place Place
	Set   string
	Dev   string
	MAC   MAC
	Proto uint8        // 6 is TCP, 17 is UDP
	Addr  netip.Prefix // a single address has its full length
	Port  uint16

	ToAddr netip.Addr
	ToPort uint16
}

// Key is the element without what a map holds under it.
func (e NFElement) Key() Key {
	e.ToAddr, e.ToPort = netip.Addr{}, 0
	return e
}

// Rank places elements after their table and before the links they are about.
func (e NFElement) Rank() Rank { return RankElement }

// String is the nft(8) command that adds the element.
func (e NFElement) String() string {
	text := e.key()
	if e.ToAddr.IsValid() {
		text += fmt.Sprintf(" : %s . %d", e.ToAddr, e.ToPort)
	}
	return e.command("add", text)
}

// Deletion is the command that removes the element.
func (e NFElement) Deletion() string { return e.command("delete", e.key()) }

func (e NFElement) command(verb, text string) string {
	return fmt.Sprintf("%s %s element %s %s { %s }", e.Place.nft(), verb, tableOf(e.Place), e.Set, text)
}

func (e NFElement) key() string {
	var parts []string
	if e.Dev != "" {
		parts = append(parts, fmt.Sprintf("%q", e.Dev))
	}
	if !e.MAC.IsZero() {
		parts = append(parts, e.MAC.String())
	}
	if e.Proto != 0 {
		parts = append(parts, protocolName(e.Proto))
	}
	if e.Addr.IsSingleIP() {
		parts = append(parts, e.Addr.Addr().String())
	} else if e.Addr.IsValid() {
		parts = append(parts, e.Addr.String())
	}
	if e.Port != 0 {
		parts = append(parts, strconv.Itoa(int(e.Port)))
	}
	return strings.Join(parts, " . ")
}

// tableOf is the family and name of our table in a place.
func tableOf(p Place) string {
	if p == Fabric {
		return "bridge weft"
	}
	return "inet weft"
}

func (p Place) nft() string {
	if p == Fabric {
		return "ip netns exec weft nft"
	}
	return "nft"
}
