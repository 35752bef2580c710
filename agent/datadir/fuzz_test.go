package datadir

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"testing"
)

// Whatever a file holds, it is refused or makes sense, and what is refused stops
// nothing a second time.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"00000000000000000000000000000009","incarnation":3,"name":"host1"}`))
	f.Add([]byte(`{"schema":1,"id":"000102030405060708090a0b0c0d0e0f","keys":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],"domain":"weft.internal","pool":"10.64.0.0/10","profile":"lan","gossip_port":1,"tunnel_port":2,"prefix":"weft/v1/"}`))
	f.Add([]byte(`{"crc32":"00000000","schema":1}`))
	f.Add([]byte(`{"schema":99}`))
	f.Add([]byte(`{"schema":1,"hosts":["00000000000000000000000000000009"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for _, name := range []string{HostFile, ClusterFile, PendingFile, UnfreedFile} {
			if err := os.WriteFile(d.File(name), body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var h Host
		if d.Read(HostFile, &h) == nil && h.Check() != nil {
			t.Errorf("host %+v", h)
		}
		var c Cluster
		if d.Read(ClusterFile, &c) == nil && c.Check() != nil {
			t.Errorf("cluster %+v", c)
		}
		var p Pending
		if err := d.Read(PendingFile, &p); err == nil && p.Check() != nil {
			t.Errorf("pending %+v", p)
		}
		if _, err := d.Unfreed(); err != nil && !errors.Is(err, ErrNewer) {
			t.Errorf("unfreed: %v", err)
		}
	})
}

// Whatever line is given as a token, it is refused as none, or it is one that makes the
// same line again, whatever white space is in it.
func FuzzToken(f *testing.F) {
	whole := Token{Cluster: "ab", Key: make([]byte, 32), GossipPort: 4798, Profile: "lan", Consul: "http://192.0.2.10:8500", CA: []byte("pem")}
	f.Add(whole.String())
	f.Add(whole.String() + "\n")
	f.Add(Token{Cluster: "ab", Key: make([]byte, 32), GossipPort: 4798, Store: "cd"}.String())
	f.Add("weft1.")
	f.Add("weft2.AAAA")
	f.Add(`{"c":"ab","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","p":1,"f":"lan"}`)
	f.Fuzz(func(t *testing.T, line string) {
		// A checksum that fits, so that what stands behind it is tried as well.
		body := binary.BigEndian.AppendUint32([]byte(line), crc32.ChecksumIEEE([]byte(line)))
		for _, given := range []string{line, tokenPrefix + base64.RawURLEncoding.EncodeToString(body)} {
			token, err := ParseToken(given)
			if err != nil {
				if !errors.Is(err, ErrToken) {
					t.Errorf("%q: %v is not ErrToken", given, err)
				}
				continue
			}
			again, err := ParseToken(" " + token.String()[:9] + "\r\n\t" + token.String()[9:])
			if err != nil || again.String() != token.String() {
				t.Errorf("%q: %+v, again %+v (%v)", given, token, again, err)
			}
		}
	})
}
