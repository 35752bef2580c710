package api

import (
	"bytes"
	"strings"
)

// Label makes the DNS label that an endpoint is known by out of a name that a
// container runtime allows: in lower case, cut to 63 bytes, with a hyphen for
// every byte that cannot stand in a label. It is empty when nothing is left.
func Label(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			b[i] = '-'
		}
	}
	return string(bytes.Trim(b[:min(len(b), 63)], "-"))
}
