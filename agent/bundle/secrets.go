package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// leftOut stands where a secret stood.
const leftOut = "(left out)"

// shortest is how long a secret must be: a shorter one would be found everywhere.
const shortest = 8

// Secrets are what must not be in a bundle, in every form that a program writes it.
type Secrets struct{ forms [][]byte }

// NewSecrets takes them as they are: bytes of a key, text of a token.
func NewSecrets(all ...[]byte) (s Secrets) {
	for _, one := range all {
		if one = bytes.TrimSpace(one); len(one) < shortest {
			continue
		}
		s.add(string(one))
		s.add(hex.EncodeToString(one))
		s.add(strings.ToUpper(hex.EncodeToString(one)))
		s.add(strings.Trim(fmt.Sprint(one), "[]")) // as Go prints bytes
		// Of base64 what does not depend on what stands before and behind: a key in a
		// token is not at a place that can be divided by three.
		for before := range 3 {
			for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				text := enc.EncodeToString(append(make([]byte, before), one...))
				first := (before*8 + 5) / 6
				last := (before + len(one)) * 8 / 6
				s.add(text[first:last])
			}
		}
		if quoted, err := json.Marshal(string(one)); err == nil {
			s.add(strings.Trim(string(quoted), `"`))
		}
	}
	return s
}

func (s *Secrets) add(form string) {
	for _, f := range s.forms {
		if string(f) == form {
			return
		}
	}
	s.forms = append(s.forms, []byte(form))
}

// Scrub returns text without any of them.
func (s Secrets) Scrub(text []byte) []byte {
	for _, f := range s.forms {
		text = bytes.ReplaceAll(text, f, []byte(leftOut))
	}
	return text
}

// JSON returns a file in JSON without what its names say is secret.
func JSON(file []byte) ([]byte, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(file))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("it is not in JSON, so it cannot be told what in it is secret: %w", err)
	}
	return json.MarshalIndent(without(v), "", "  ")
}

// without leaves out the values of names that say so.
func without(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if secret(name) && value != nil {
				v[name] = leftOut
			} else {
				v[name] = without(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = without(v[i])
		}
	}
	return v
}

func secret(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "_file") || strings.HasSuffix(name, "file") { // where it is, not what
		return false
	}
	for _, word := range []string{"key", "token", "secret", "passw", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
