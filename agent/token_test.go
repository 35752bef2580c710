package agent

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenRoundTrip(t *testing.T) {
	want := token{Cluster: strings.Repeat("ab", 16), Key: bytes.Repeat([]byte{7}, 32), GossipPort: 4798, Profile: "lan",
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
		got, err := parseToken(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTokenDamage(t *testing.T) {
	line := token{Cluster: strings.Repeat("ab", 16), Key: bytes.Repeat([]byte{7}, 32), GossipPort: 4798}.String()
	for name, text := range map[string]string{
		"empty":            "",
		"something else":   "hello",
		"cut short":        line[:len(line)-3],
		"one letter wrong": line[:30] + flip(line[30]) + line[31:],
		"only the prefix":  tokenPrefix,
		"no key":           token{Cluster: "ab", GossipPort: 4798}.String(),
	} {
		if _, err := parseToken(text); !errors.Is(err, errToken) {
			t.Errorf("%s: got %v, want %v", name, err, errToken)
		}
	}
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// readToken is the token that init left in a file.
func readToken(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
