package datadir

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// tokenPrefix names the format; a newer one gets another number.
const tokenPrefix = "weft1."

// Token is what a host needs to become a member. Whoever has it is one, so it
// is kept in 0600 files only. It never holds a Consul ACL token.
type Token struct {
	Cluster    string `json:"c"` // cluster id
	Key        []byte `json:"k"` // gossip key, 32 bytes
	GossipPort uint16 `json:"p"`
	Profile    string `json:"f"`           // lan or wan
	Consul     string `json:"u,omitempty"` // URL; empty: the embedded store
	Prefix     string `json:"x,omitempty"` // of the keys in Consul
	CA         []byte `json:"a,omitempty"` // PEM of the CA that signed Consul's certificate
	Store      string `json:"s,omitempty"` // id of the embedded store
}

// ErrToken is wrapped by every error of ParseToken.
var ErrToken = errors.New("not a weft token, or not whole")

// String is the token in one line: prefix, base64url of JSON and a CRC-32, so
// that a line cut short in a copy is noticed before anything is tried.
func (t Token) String() string {
	body, err := json.Marshal(t)
	if err != nil {
		panic("a token is always encodable: " + err.Error())
	}
	body = binary.BigEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(body)
}

// ParseToken reads a token. White space anywhere in it is ignored, since
// terminals and mail programs break long lines.
func ParseToken(s string) (Token, error) {
	s = strings.Join(strings.Fields(s), "")
	enc, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("token: %w (it begins with %q)", ErrToken, tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(enc)
	if err != nil || len(b) < 5 {
		return Token{}, fmt.Errorf("token: %w", ErrToken)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return Token{}, fmt.Errorf("token: %w (checksum)", ErrToken)
	}
	var t Token
	if err := json.Unmarshal(body, &t); err != nil {
		return Token{}, fmt.Errorf("token: %w", ErrToken)
	}
	if len(t.Key) != 32 || t.Cluster == "" || t.GossipPort == 0 {
		return Token{}, fmt.Errorf("token: %w", ErrToken)
	}
	return t, nil
}
