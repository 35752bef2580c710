package nft

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/overlay"
)

// BenchmarkStart is what an agent does first, on a host without our tables.
func BenchmarkStart(b *testing.B) {
	l := newNFTLab(b)
	tables := tablesAsObjects(filterOf(b, stateNamed(b, "member of no network")))
	for b.Loop() {
		l.first(b, tables)
		b.StopTimer()
		must(b, l.nft.Delete(b.Context(), tables...))
		b.StartTimer()
	}
}

// BenchmarkAdopt is what an agent does first on a host that has them.
func BenchmarkAdopt(b *testing.B) {
	l := newNFTLab(b)
	tables := tablesAsObjects(filterOf(b, stateNamed(b, "member of no network")))
	l.put(b, tables...)
	for b.Loop() {
		l.first(b, tables)
	}
}

// first opens the tables anew and puts them.
func (l *nftLab) first(b *testing.B, tables []overlay.Object) {
	n, err := New(Config{Host: l.nft.host.ns, Fabric: l.nft.fabric.ns})
	must(b, err)
	_, err = n.List(b.Context())
	must(b, err)
	must(b, n.Put(b.Context(), tables...))
	must(b, n.Close())
}

// BenchmarkElements puts and deletes what an endpoint may send from, beside that
// of a thousand others.
func BenchmarkElements(b *testing.B) {
	l := newNFTLab(b)
	l.put(b, filterOf(b, stateNamed(b, "member of no network"))...)
	var all []overlay.Object
	for i := range 3001 {
		all = append(all, overlay.NFElement{Place: overlay.Fabric, Set: "ports4", Dev: fmt.Sprintf("k%012x", i/3), MAC: overlay.MAC{0x0e, 4: byte(i >> 8), 5: byte(i)},
			Addr: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}), 32)})
	}
	l.put(b, all[3:]...)
	for b.Loop() {
		l.put(b, all[:3]...)
		must(b, l.nft.Delete(b.Context(), all[:3]...))
	}
}

// BenchmarkList reads both tables, with those elements.
func BenchmarkList(b *testing.B) {
	l := newNFTLab(b)
	l.put(b, filterOf(b, stateNamed(b, "one network with a local endpoint"))...)
	for b.Loop() {
		l.list(b)
	}
}
