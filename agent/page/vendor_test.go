package page_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// The library is what was published, to the byte.
func TestLibraryIsTheOneThatWasPinned(t *testing.T) {
	text, err := os.ReadFile("assets/vendor/htm-preact.js")
	if err != nil {
		t.Fatal(err)
	}
	design, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if !strings.Contains(string(design), hex.EncodeToString(sum[:])) {
		t.Errorf("DESIGN.md does not have the sum %x of the library", sum)
	}
}
