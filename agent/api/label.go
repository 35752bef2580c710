package api

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// The longest label and the longest name in bytes (RFC 1035, section 2.3.4).
const (
	longestLabel = 63
	longestName  = 253
)

// Label makes the DNS label that an endpoint is known by out of a name that a
// container runtime allows: in lower case, cut to 63 bytes, with a hyphen for
// every character that cannot stand in a label. It is empty when nothing is left,
// and for a name with letters beyond ASCII, of which nobody would guess the rest.
func Label(name string) string {
	b := []byte(strings.ToLower(name))
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return ""
		}
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			b[i] = '-'
		}
	}
	return string(bytes.Trim(b[:min(len(b), longestLabel)], "-"))
}

// Names are what an endpoint is known by whose runtime calls it name: its label
// and, when a name with dots can be asked for as it is, that too. A name that is cut to
// a label stands behind it as it is: nobody can ask for it, and status says so. There
// is none when nothing is left of the name.
func Names(name string) []string {
	label := Label(name)
	if label == "" {
		return nil
	}
	whole := strings.ToLower(name)
	for part := range strings.SplitSeq(whole, ".") {
		if part == "" || part != Label(part) && len(part) <= longestLabel || len(whole) > longestName {
			return []string{label}
		}
	}
	if whole == label {
		return []string{label}
	}
	return []string{label, whole}
}
