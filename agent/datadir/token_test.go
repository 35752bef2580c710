package datadir

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenRoundTrip(t *testing.T) {
	want := Token{Cluster: strings.Repeat("ab", 16), Key: bytes.Repeat([]byte{7}, 32), GossipPort: 4798, Profile: "lan",
		Consul: "http://192.0.2.10:8500", Prefix: "weft/v1/"}
	line := want.String()
	if strings.ContainsAny(line, " \n") {
		t.Fatalf("a token is one line without blanks: %q", line)
	}
	for name, text := range map[string]string{
		"as it is":           line,
		"with a newline":     line + "\n",
		"broken by a mailer": line[:20] + "\r\n  " + line[20:],
	} {
		got, err := ParseToken(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTokenDamage(t *testing.T) {
	line := Token{Cluster: strings.Repeat("ab", 16), Key: bytes.Repeat([]byte{7}, 32), GossipPort: 4798}.String()
	for name, text := range map[string]string{
		"empty":            "",
		"something else":   "hello",
		"cut short":        line[:len(line)-3],
		"one letter wrong": line[:30] + flip(line[30]) + line[31:],
		"only the prefix":  tokenPrefix,
		"no key":           Token{Cluster: "ab", GossipPort: 4798}.String(),
	} {
		if _, err := ParseToken(text); !errors.Is(err, ErrToken) {
			t.Errorf("%s: got %v, want %v", name, err, ErrToken)
		}
	}
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}
