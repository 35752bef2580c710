package doctor_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// unpack reads a bundle: its files by their names, without the directory that all are in.
func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if out[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// A bundle has what helps, of all hosts that answer, and no secret in any form. A host
// that does not answer, and a part that fails, are named.
func TestBundleHelpsAndTellsNoSecret(t *testing.T) {
	t.Parallel()
	acl := "6f1d0c5e-3d2b-4a77-9f55-0a1b2c3d4e5f"
	tokenFile := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(tokenFile, []byte(acl+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := agenttest.NewLab(t, agenttest.Config{})
	for _, h := range l.Hosts {
		h.More = []string{"--consul-token-file", tokenFile}
	}
	l.Assemble()
	one, three := l.Host(1), l.Host(3)
	one.CreateNetwork("blue")
	for _, h := range l.Hosts {
		h.Endpoint("blue", "web-on-"+h.Name)
	}
	join := strings.TrimSpace(string(read(t, one.TokenFile())))
	var cluster struct{ Keys [][]byte }
	if err := json.Unmarshal(read(t, filepath.Join(one.DataDir(), "cluster.json")), &cluster); err != nil || len(cluster.Keys) == 0 {
		t.Fatalf("%v, %d keys", err, len(cluster.Keys))
	}
	// Somebody typed the token and the key where they do not belong.
	one.Ctl("attach", "blue", "--netns", "/run/"+acl, "--name", "x")
	one.Ctl("why", hex.EncodeToString(cluster.Keys[0]), base64.StdEncoding.EncodeToString(cluster.Keys[0]))
	one.Ctl("network", "inspect", join)
	three.Kill()

	path := filepath.Join(t.TempDir(), "weft.tar.gz")
	one.MustCtl("debug", "bundle", "--all", "-o", path)
	files := unpack(t, path)
	names := slices.Sorted(maps.Keys(files))
	t.Logf("%d files, %d bytes", len(files), size(t, path))

	for name, says := range map[string]string{
		"README": "of host h1", "status.json": `"checks"`, "doctor.json": `"evidence"`, "verify.json": `"checked"`, "proofs.json": `"peer": "h2"`,
		"members.json": `"name": "h3"`, "networks.json": "blue", "endpoints.json": "web-on-h2", "events.jsonl": "endpoint-attached",
		"config.json": `"consul.token_file"`, "log.txt": "msg=", "goroutines.txt": "goroutine ", "heap.txt": "heap profile", "metrics.txt": "weft_status", "conntrack.txt": "nf_conntrack_count",
		"version.json": `"go"`, "data/cluster.json": `"keys": "(left out)"`, "data/host.json": `"name": "h1"`, "data/files.txt": "leases.db",
		"host/links.txt": "eth0", "host/routes.txt": "192.0.2.0/24", "host/nft.txt": "table inet weft", "host/addresses.txt": one.Addr.String(), "host/kernel.txt": "Linux",
		"fabric/links.txt": "vxlan", "fabric/fdb.txt": "dst 192.0.2.2", "fabric/neighbours.txt": "PERMANENT", "fabric/nft.txt": "table bridge weft",
		"members/h2/README": "of host h2", "members/h2/status.json": `"name": "h2"`, "members/h2/fabric/fdb.txt": "dst " + one.Addr.String(),
	} {
		if !bytes.Contains(files[name], []byte(says)) {
			t.Errorf("%s does not say %q: %.600s; of %q", name, says, files[name], names)
		}
	}
	readme := string(files["README"])
	for _, name := range names {
		if name != "README" && !strings.Contains(readme, "  "+name+" (") {
			t.Errorf("README does not name %s", name)
		}
	}
	if _, absent, _ := strings.Cut(readme, "could not be had"); !strings.Contains(absent, "  members/h3\n      ") {
		t.Errorf("README does not say that h3 did not answer:\n%s", readme)
	}

	secrets := map[string][]byte{"ACL token": []byte(acl), "join token": []byte(join)}
	for _, k := range cluster.Keys {
		secrets["key"] = k
	}
	for what, secret := range secrets {
		for form, text := range map[string]string{
			"raw": string(secret), "hex": hex.EncodeToString(secret), "HEX": strings.ToUpper(hex.EncodeToString(secret)),
			"base64": base64.RawStdEncoding.EncodeToString(secret), "base64url": base64.RawURLEncoding.EncodeToString(secret),
		} {
			for name, file := range files {
				if bytes.Contains(file, []byte(text)) {
					t.Errorf("%s has the %s in it, in %s", name, what, form)
				}
			}
		}
	}
	two := filepath.Join(t.TempDir(), "two.tar.gz")
	one.MustCtl("debug", "bundle", "-o", two)
	if files := unpack(t, two); files["members/h2/README"] != nil || files["status.json"] == nil {
		t.Errorf("of this host alone: %q", slices.Sorted(maps.Keys(files)))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
