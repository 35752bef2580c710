package dist

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// What the package holds, without installing it.
func TestFilesOfThePackage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	deb := build(t, dir, "")
	mustRun(t, "dpkg-deb", "-x", deb, root)
	t.Run("the agent's programs come with it", func(t *testing.T) {
		if depends := mustRun(t, "dpkg-deb", "-f", deb, "Depends"); !strings.Contains(depends, "nftables") {
			t.Errorf("depends on %s", depends)
		}
	})
	t.Run("units are valid and hardened", func(t *testing.T) { unitsAreValid(t, root) })
	t.Run("manual pages render without warnings", func(t *testing.T) { pagesRender(t, root) })
	t.Run("completions load", func(t *testing.T) { completionsLoad(t, root) })
	t.Run("the configuration is the default", func(t *testing.T) { configurationIsDefault(t, root) })
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := agenttest.Run("", args...)
	if r.Code != 0 {
		t.Fatalf("%s", r)
	}
	return r.Stdout
}

func unitsAreValid(t *testing.T, root string) {
	agenttest.Need(t, "systemd-analyze")
	units, err := filepath.Glob(root + "/lib/systemd/system/*")
	if err != nil || len(units) != 4 {
		t.Fatalf("units %q: %v", units, err)
	}
	// Programs are looked for in this machine's root: those of the package are
	// named as they lie here.
	for _, u := range units {
		b, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, p := range []string{"/usr/bin/agentd ", "/usr/libexec/weft/netns "} {
			text = strings.ReplaceAll(text, p, root+p)
		}
		if err := os.WriteFile(u, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	template := strings.Replace(units[len(units)-1], "@.", "@web.", 1)
	mustRun(t, "cp", units[len(units)-1], template)
	r := agenttest.Run("", append([]string{"systemd-analyze", "verify", "--man=no", template}, units[:3]...)...)
	if said := about(r.Stderr, "agentd", "weft"); r.Code != 0 || said != "" {
		t.Errorf("%s", r)
	}
	// Ten times the exposure: 4.0 is the limit, 3.7 was measured.
	if r := agenttest.Run("", "systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager", root+"/lib/systemd/system/agentd.service"); r.Code != 0 {
		t.Errorf("%s", r)
	}
}

// about are the lines that name one of the words: verify loads other units too.
func about(text string, words ...string) string {
	var out []string
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.Contains(line, w) {
				out = append(out, line)
				break
			}
		}
	}
	return strings.Join(out, "")
}

func pagesRender(t *testing.T, root string) {
	agenttest.Need(t, "man")
	pages, err := filepath.Glob(root + "/usr/share/man/man*/*.gz")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, p := range pages {
		there[strings.TrimSuffix(filepath.Base(p), ".gz")] = true
	}
	for _, want := range []string{"agentctl.1", "agentctl-network-create.1", "agentd.yaml.5", "agentd.8", "weft-netns@.service.8"} {
		if !there[want] {
			t.Errorf("%s is not among %v", want, pages)
		}
	}
	ours := regexp.MustCompile(`\b((?:agent|weft)[-a-z@.]*)\((\d)\)`)
	for _, p := range pages {
		r := agenttest.Run("", "env", "LC_ALL=C.UTF-8", "MANWIDTH=100", "man", "--warnings", "-l", p)
		if r.Code != 0 || r.Stderr != "" || r.Stdout == "" {
			t.Errorf("%s", r)
		}
		for _, m := range ours.FindAllStringSubmatch(r.Stdout, -1) {
			if name := m[1] + "." + m[2]; !there[name] {
				t.Errorf("%s refers to %s, which is not there", filepath.Base(p), m[0])
			}
		}
	}
}

func completionsLoad(t *testing.T, root string) {
	agenttest.Need(t, "bash", "zsh", "fish")
	share := root + "/usr/share"
	bash := share + "/bash-completion/completions/agentctl"
	zsh := share + "/zsh/vendor-completions/_agentctl"
	fish := share + "/fish/vendor_completions.d/agentctl.fish"
	mustRun(t, "bash", "-n", bash)
	mustRun(t, "zsh", "-n", zsh)
	mustRun(t, "fish", "-n", fish)
	for shell, line := range map[string]string{
		"bash": fmt.Sprintf("source %s && complete -p agentctl", bash),
		"zsh":  fmt.Sprintf("autoload -U compinit && compinit -u -D && fpath=(%s $fpath) && autoload -U _agentctl && source %s && print $_comps[agentctl]", filepath.Dir(zsh), zsh),
		"fish": fmt.Sprintf("source %s; complete -c agentctl", fish),
	} {
		r := agenttest.Run("", "env", "HOME="+t.TempDir(), shell, "-c", line)
		if r.Code != 0 || !strings.Contains(r.Stdout, "agentctl") {
			t.Errorf("%s", r)
		}
	}
}

// The configuration of the package changes nothing, and shows every key.
func configurationIsDefault(t *testing.T, root string) {
	mustRun(t, root+"/usr/bin/agentd", "config", "check", root+"/etc/weft/agentd.yaml")
	b, err := os.ReadFile(root + "/etc/weft/agentd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line != "\n" && line[0] != '#' {
			t.Errorf("a key is set: %q", line)
		}
	}
	for line := range strings.Lines(mustRun(t, root+"/usr/bin/agentd", "config", "print-default")) {
		if !strings.Contains(string(b), line) {
			t.Errorf("%q is missing", line)
		}
	}
}
