package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func text(s string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(s), nil }
}

// files unpacks an archive.
func files(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || h.Mode != 0o600 {
			t.Fatalf("%s: mode %o, %v", h.Name, h.Mode, err)
		}
		out[h.Name] = string(b)
	}
}

func TestAPartThatFailsIsNamedAndStopsNothing(t *testing.T) {
	archive, err := Write(t.Context(), "top", "of h1", []Part{
		{"a.txt", "the first", text("A")},
		{"bad.txt", "fails", func(context.Context) ([]byte, error) { return nil, errors.New("no such program") }},
		{"worse.txt", "panics", func(context.Context) ([]byte, error) { panic("oh") }},
		{"none.txt", "is empty", text("")},
	}, Secrets{})
	if err != nil {
		t.Fatal(err)
	}
	got := files(t, archive)
	if got["top/a.txt"] != "A" || got["top/none.txt"] != "(empty)\n" || len(got) != 3 {
		t.Errorf("%q", got)
	}
	for _, want := range []string{"of h1\n", "a.txt (1 bytes)\n      the first", "bad.txt\n      no such program", "worse.txt\n      it panicked: oh"} {
		if !strings.Contains(got["top/README"], want) {
			t.Errorf("README does not say %q:\n%s", want, got["top/README"])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, "top", "", []Part{{"a", "", text("A")}}, Secrets{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended by its caller: %v", err)
	}
}

// The secret may stand in any form, at any place, beside anything.
func TestNoSecretComesThrough(t *testing.T) {
	key := []byte("\x00\xfe0123456789\n\"abcdefghijklmnopq\xff")
	acl := []byte("6f1d0c5e-3d2b-4a77-9f55-0a1b2c3d4e5f\n")
	s := NewSecrets(key, acl, []byte("short"))
	for _, secret := range [][]byte{key, bytes.TrimSpace(acl)} {
		for _, form := range []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), fmt.Sprint(secret), fmt.Sprintf("%x", secret)} {
			if got := s.Scrub([]byte("a " + form + " b")); strings.Contains(string(got), strings.Trim(form, "[]")) || !strings.Contains(string(got), leftOut) {
				t.Errorf("%q is in %q", form, got)
			}
		}
		for n := range 7 {
			around := append(append(bytes.Repeat([]byte("p"), n), secret...), "behind it"[:n]...)
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
				form := enc.EncodeToString(around)
				got := s.Scrub([]byte("token=" + form + "."))
				if !strings.Contains(string(got), leftOut) || len(got) > len("token=.")+len(leftOut)+2*n+12 {
					t.Errorf("with %d before: %q of %q", n, got, form)
				}
			}
		}
	}
	if got := s.Scrub([]byte("short and sweet")); string(got) != "short and sweet" {
		t.Errorf("%q", got)
	}
}

func TestJSONLosesWhatItsNamesSay(t *testing.T) {
	got, err := JSON([]byte(`{"id":"x","n":12345678901234567890,"keys":["AAAA"],"nested":[{"acl_token":"y","token_file":"/etc/t","Key":null}],"password":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id": "x"`, `12345678901234567890`, `"keys": "(left out)"`, `"acl_token": "(left out)"`, `"token_file": "/etc/t"`, `"password": "(left out)"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if _, err := JSON([]byte("weft1.abc")); err == nil {
		t.Error("what is no JSON was let through")
	}
}

// A member may send anything.
func TestAMembersBundleIsChecked(t *testing.T) {
	good, err := Write(t.Context(), "h2", "of h2", []Part{{"kernel/links.txt", "", text("L")}}, Secrets{})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := Of(good, "members/h2")
	if err != nil || len(parts) != 2 || parts[0].Name != "members/h2/kernel/links.txt" {
		t.Fatalf("%+v, %v", parts, err)
	}
	if b, err := parts[0].Make(t.Context()); err != nil || string(b) != "L" {
		t.Errorf("%q, %v", b, err)
	}
	pack := func(h tar.Header, body string) []byte {
		var out bytes.Buffer
		gz := gzip.NewWriter(&out)
		w := tar.NewWriter(gz)
		if h.Size == 0 {
			h.Size = int64(len(body))
		}
		_ = w.WriteHeader(&h)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
		_ = gz.Close()
		return out.Bytes()
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		why     string
	}{
		{"nothing", nil, "no bundle"},
		{"no archive", []byte("hello"), "no bundle"},
		{"a path above", pack(tar.Header{Typeflag: tar.TypeReg, Name: "h2/../../etc/passwd"}, "x"), "no name of a file"},
		{"an absolute path", pack(tar.Header{Typeflag: tar.TypeReg, Name: "h2//etc/passwd"}, "x"), "no name of a file"},
		{"a control character", pack(tar.Header{Typeflag: tar.TypeReg, Name: "h2/a\x1b[2J"}, "x"), "no name of a file"},
		{"a link", pack(tar.Header{Typeflag: tar.TypeSymlink, Name: "h2/a", Linkname: "/etc/passwd"}, ""), "no file"},
		{"a bomb", pack(tar.Header{Typeflag: tar.TypeReg, Name: "h2/a", Size: 1 << 40}, "x"), "too large"},
		{"half of one", good[:len(good)/2], "ends early"},
	} {
		if _, err := Of(tt.archive, "members/h2"); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
