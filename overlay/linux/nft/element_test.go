package nft

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/overlay"
)

func TestElementsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want overlay.NFElement
		want.Set = "a"
		if rapid.Bool().Draw(t, "dev") {
			want.Dev = rapid.StringMatching(`[a-z0-9]{1,15}`).Draw(t, "name")
		}
		if want.Dev != "" && rapid.Bool().Draw(t, "mac") {
			want.MAC = overlay.MAC{0x0e, 1, 2, 3, 4, rapid.Byte().Draw(t, "last")}
		}
		if want.Dev == "" || rapid.Bool().Draw(t, "addr") {
			a := anyAddress(t)
			want.Addr = netip.PrefixFrom(a, a.BitLen())
		}
		if rapid.Bool().Draw(t, "published") {
			want.Proto, want.Port = rapid.SampledFrom([]uint8{6, 17}).Draw(t, "proto"), rapid.Uint16Min(1).Draw(t, "port")
			want.ToAddr, want.ToPort = netip.AddrFrom4([4]byte{10, 0, 0, 9}), rapid.Uint16Min(1).Draw(t, "to")
		}
		set := &nftables.Set{Name: "a", KeyType: nftables.SetDatatype{Name: typeOf(want)}, IsMap: want.ToAddr.IsValid()}
		got, unsupported := decodeElements(overlay.Host, set, encodeElement(want, false))
		if unsupported != 0 || len(got) != 1 || got[0] != want {
			t.Fatalf("got %v and %d unsupported ones, want %s", got, unsupported, want)
		}
	})
}

func TestIntervalsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyAddress(t)
		p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		want := []overlay.NFElement{{Set: "a", Addr: p}}
		if next := behind(p); next.IsValid() { // a neighbour begins where the first ends
			want = append(want, overlay.NFElement{Set: "a", Addr: netip.PrefixFrom(next, next.BitLen())})
		}
		got, unsupported := decodeIntervals(overlay.Host, "a", encodeAll(want, true))
		if unsupported != 0 || len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Fatalf("got %v and %d unsupported ones, want %v", got, unsupported, want)
		}
	})
}

func TestIntervalThatIsNoPrefixIsOdd(t *testing.T) {
	got, unsupported := decodeIntervals(overlay.Host, "a", []nftables.SetElement{
		{Key: []byte{192, 0, 2, 5}}, {Key: []byte{192, 0, 2, 9}, IntervalEnd: true},
	})
	if len(got) != 0 || unsupported != 1 {
		t.Errorf("got %v and %d unsupported ones, want one unsupported one", got, unsupported)
	}
}

func anyAddress(t *rapid.T) netip.Addr {
	size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
	b := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "address")
	a, _ := netip.AddrFromSlice(b)
	return a
}
