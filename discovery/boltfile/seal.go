package boltfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
)

// A flipped bit within a value leaves the pages whole, so each value has a checksum of
// its key and of itself. It is the first field of the JSON object, which an earlier
// agent passes over, and which is missing in what that agent wrote.
const (
	sealOpens  = `{"crc32":"`
	sealCloses = `"`
	sealLength = len(sealOpens) + 8 + len(sealCloses)
)

// ErrDamaged: a value is not what was written.
var ErrDamaged = errors.New("its checksum is wrong")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of a value under a key.
func Sum(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// Seal puts the checksum into a JSON object.
func Seal(key, object []byte) []byte {
	out := hex.AppendEncode([]byte(sealOpens), Sum(key, object))
	out = append(out, sealCloses...)
	if !bytes.Equal(object, []byte("{}")) {
		out = append(out, ',')
	}
	return append(out, object[1:]...)
}

// Unseal returns the object that Seal was given. One without a checksum is returned
// as it is.
func Unseal(key, sealed []byte) ([]byte, error) {
	if !bytes.HasPrefix(sealed, []byte(sealOpens)) || len(sealed) <= sealLength {
		return sealed, nil
	}
	rest := bytes.TrimPrefix(sealed[sealLength:], []byte(","))
	object := append([]byte("{"), rest...)
	sum, err := hex.AppendDecode(nil, sealed[len(sealOpens):len(sealOpens)+8])
	if err != nil || !bytes.Equal(sum, Sum(key, object)) {
		return nil, ErrDamaged
	}
	return object, nil
}
