package boltfile

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestSealedValueIsReadAsItWasWritten(t *testing.T) {
	key := []byte("key")
	for _, object := range []string{`{}`, `{"state":"leased","seq":7}`} {
		sealed := Seal(key, []byte(object))
		if got, err := Unseal(key, sealed); err != nil || string(got) != object {
			t.Errorf("%s: got %s, %v", sealed, got, err)
		}
		// As an agent that knows nothing of it reads, and writes.
		var v map[string]any
		if err := json.Unmarshal(sealed, &v); err != nil {
			t.Errorf("%s: %v", sealed, err)
		}
		if got, err := Unseal(key, []byte(object)); err != nil || string(got) != object {
			t.Errorf("without a checksum: got %s, %v", got, err)
		}
		if _, err := Unseal([]byte("other"), sealed); err == nil {
			t.Error("under another key it is taken")
		}
		for i := range 8 * len(sealed) {
			torn := bytes.Clone(sealed)
			torn[i/8] ^= 1 << (i % 8)
			got, err := Unseal(key, torn)
			var v, want map[string]any
			_ = json.Unmarshal([]byte(object), &want)
			if err == nil && json.Unmarshal(got, &v) == nil && v["seq"] != want["seq"] {
				t.Errorf("bit %d: taken as %s", i, got)
			}
		}
	}
}
