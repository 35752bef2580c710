package nft

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"

	"github.com/weft-net/weft/overlay"
)

// Each line of a chain is one rule, or the text is refused.
func TestTextsThatCannotBeTranslated(t *testing.T) {
	l := newNFTLab(t)
	for rule, want := range map[string]string{
		"make haste":                      "make haste",
		"meta l4proto { tcp, udp } drop":  "needs a name",
		"accept; drop":                    "2 rules of 1 lines",
		"iifname @nowhere drop":           "nowhere",
		"meta iifgroup 1 goto somewhere":  "nft -f -",
		"iifname \"far-too-long-a-name\"": "nft -f -",
	} {
		table := overlay.NFTable{Place: overlay.Host, Family: "inet", Name: "weft", Rules: "\tchain a {\n\t\t" + rule + "\n\t}\n"}
		if err := l.nft.Put(t.Context(), table); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", rule, err, want)
		}
	}
	same(t, nil, l.list(t))
}

// The stand-in's load is moved, the question for its protocol left out, and
// nothing else touched.
func TestMovedTarget(t *testing.T) {
	load := func(base expr.PayloadBase, offset, size uint32) *expr.Payload {
		return &expr.Payload{DestRegister: 14, Base: base, Offset: offset, Len: size}
	}
	got := moved([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{0x86, 0xdd}},
		load(expr.PayloadBaseNetworkHeader, 8, 16),
		load(expr.PayloadBaseNetworkHeader, 24, 16),
		&expr.Verdict{Kind: expr.VerdictDrop},
	})
	want := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		load(expr.PayloadBaseNetworkHeader, 8, 16),
		load(expr.PayloadBaseTransportHeader, 8, 16),
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("expressions differ (-want +got):\n%s", diff)
	}
}

func TestRulesOfAText(t *testing.T) {
	got := rulesOf("\tset chain {\n\t\ttype ifname\n\t\tflags interval\n\t}\n\tchain a {\n\t\ttype filter hook input priority 0; policy accept;\n" +
		"\t\taccept\n\t\tdrop\n\t}\n\tchain b {\n\t}\n")
	if diff := gocmp.Diff(map[string][]string{"a": {"accept", "drop"}}, got); diff != "" {
		t.Errorf("rules differ (-want +got):\n%s", diff)
	}
}

// A Debian without netbase has no /etc/protocols, and a service sees no more of
// /etc than it must: the texts name nothing that is looked up there.
func TestTextsNeedNoFilesOfNames(t *testing.T) {
	l := newNFTLab(t)
	for _, table := range tablesOf(filterOf(t, stateNamed(t, "one network with a local endpoint"))) {
		sh(t, `unshare --mount sh -ec 'for f in protocols services ethertypes; do
			[ ! -e /etc/$f ] || mount --bind /dev/null /etc/$f
		done; exec ip netns exec %s nft -c -f -' <<'EOF'
%s
EOF`, l.host, strings.ReplaceAll(table.Text(), target, standIn))
	}
}
