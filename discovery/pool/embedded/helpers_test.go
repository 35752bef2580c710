package embedded_test

import (
	"testing"
	"time"

	"github.com/weft-net/weft/discovery/pool/embedded"
)

// await returns when the store answers.
func await(t testing.TB, s *embedded.Store) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := s.ID(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
