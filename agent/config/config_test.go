package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

var addrDiff = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})

func TestReferenceConfigurationIsTheDefault(t *testing.T) {
	got, err := parse(strings.NewReader(DefaultYAML))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, addrDiff, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("agentd.yaml says other defaults than the code (-code +file):\n%s", diff)
	}
}

func TestParseNamesTheKeyAtFault(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"an unknown key, with its line", "name: host1\nnmae: host1\n", `[2:1] unknown field "nmae"`},
		{"a key of a feature that is not there", "tunnel_port: 4800\nwireguard_port: 51871\n", `[2:1] unknown field "wireguard_port"`},
		{"a key given twice", "name: a\nname: b\n", "[2:1]"},
		{"not YAML", "name: [\n", "[1:"},
		{"a bad address", "advertise: 192.0.2.256\n", `advertise: "192.0.2.256" is no IP address`},
		{"the unspecified address", "advertise: 0.0.0.0\n", "advertise: 0.0.0.0 is no address of one host"},
		{"a bad host name", "name: a.b\n", `name: "a.b" is no DNS label`},
		{"a bad level", "log_level: loud\n", `log_level: "loud"`},
		{"a port that is none", "gossip_port: 70000\n", "[1:14] want a number from 0 to 65535"},
		{"a port that is a word", "gossip_port: abc\n", "[1:14] want a number from 0 to 65535"},
		{"a list for a word", "name: [a]\n", "[1:7] want a text"},
		{"neither true nor false", "dns: {forward_single_label: maybe}\n", "[1:29] want true or false"},
		{"two ports alike", "gossip_port: 4799\n", "must differ"},
		{"the port of redirected questions", "tunnel_port: 4797\n", "tunnel_port: 4797"},
		{"two stores", "consul: {url: 'http://192.0.2.10:8500'}\nembedded_store: /run/s.sock\n", "exclude each other"},
		{"a pool with host bits", "pool: 10.64.0.1/10\n", "the subnet is 10.64.0.0/10"},
		{"a pool that is too small", "pool: 10.64.0.0/24\n", "/20 or larger"},
		{"a bad resolver", "dns: {upstreams: [example.com]}\n", `dns.upstreams: "example.com"`},
		{"a bad duration", "dns: {ttl: soon}\n", `dns.ttl: "soon" is no duration`},
		{"a conflist directory that depends on where one stands", "cni_conf_dir: net.d\n", `cni_conf_dir: "net.d" is no absolute path`},
		{"a fabric that depends on where one stands", "fabric: a/b\n", `fabric: "a/b" is neither a name nor an absolute path`},
		{"a bad word", "dns_intercept: some\n", `dns_intercept: "some" is none of all, upstreams, off`},
		{"another bad word", "dns_address: maybe\n", `dns_address: "maybe" is none of auto, on, off`},
		{"a bad domain", "domain: weft..internal\n", "domain:"},
		{"metrics without a port", "metrics_listen: 127.0.0.1\n", `metrics_listen: "127.0.0.1" is no address with a port such as 127.0.0.1:9798`},
		{"metrics at a name", "metrics_listen: 'localhost:9798'\n", `metrics_listen: "localhost:9798" is no address with a port`},
		{"random bytes", "\x00\xff\x01garbage", "configuration:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(strings.NewReader(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestEveryKeyIsAFlag(t *testing.T) {
	given := map[string]string{
		"dns-intercept": "off", "dns-address": "on",
		"name": "h1", "advertise": "192.0.2.1", "run-dir": "/tmp/r", "data-dir": "/tmp/d", "fabric": "f1", "cni-conf-dir": "/etc/c", "log-level": "debug",
		"log-format": "json", "consul": "http://192.0.2.10:8500", "consul-prefix": "p", "consul-token-file": "/t", "consul-ca-file": "/c",
		"domain": "example.com", "pool": "10.0.0.0/8", "gossip-port": "1", "tunnel-port": "2",
		"profile": "wan", "avoid": "10.1.0.0/16,10.2.0.0/16", "dns-ttl": "1s", "dns-upstreams": "192.0.2.53", "dns-resolv-conf": "/r",
		"dns-forward-single-label": "false", "dns-dead-grace": "2s", "docker-socket": "/d.sock", "docker-daemon-json": "/d.json", "docker-plugin-socket": "/p.sock",
		"limits-member-endpoints": "9", "metrics-listen": "127.0.0.1:9798", "history-max": "2MiB", "history-age": "2h", "test-peers": "false",
	}
	flags, err := Load("", given)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agentd.yaml")
	yaml := `{dns_intercept: off, dns_address: on, name: h1, advertise: 192.0.2.1, run_dir: /tmp/r, data_dir: /tmp/d, fabric: f1, cni_conf_dir: /etc/c, metrics_listen: "127.0.0.1:9798", log_level: debug, log_format: json,
 consul: {url: "http://192.0.2.10:8500", prefix: p, token_file: /t, ca_file: /c}, domain: example.com, pool: 10.0.0.0/8,
 gossip_port: 1, tunnel_port: 2, profile: wan, avoid: [10.1.0.0/16, 10.2.0.0/16],
 dns: {ttl: 1s, upstreams: [192.0.2.53], resolv_conf: /r, forward_single_label: false, dead_grace: 2s},
 docker_socket: /d.sock, docker_daemon_json: /d.json, docker_plugin_socket: /p.sock, limits: {member_endpoints: 9}, history_max: 2MiB, history_age: 2h, test_peers: false}`
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromFile, flags, addrDiff); diff != "" {
		t.Errorf("(-file +flags):\n%s", diff)
	}
	if _, ok := given["embedded-store"]; ok || len(given)+1 != len(Keys()) {
		t.Errorf("%d keys, %d of them tried here (embedded-store excludes consul)", len(Keys()), len(given))
	}
}

func TestReloadNamesTheKeysThatNeedARestart(t *testing.T) {
	running := Default()
	next := running
	next.LogLevel = -4
	if err := running.Reload(next); err != nil {
		t.Errorf("a changed log level: %v", err)
	}
	next.Store.Consul = "http://192.0.2.11:8500"
	if err := running.Reload(next); err != nil {
		t.Errorf("another address of Consul: %v", err)
	}
	other := map[string]string{
		"name": "other", "advertise": "192.0.2.9", "domain": "example.com", "pool": "10.0.0.0/8",
		"gossip-port": "1", "tunnel-port": "1", "profile": "wan", "avoid": "10.1.0.0/16",
		"dns-intercept": "off", "dns-address": "on",
		"log-format": "json", "dns-ttl": "1s", "dns-upstreams": "192.0.2.53", "dns-forward-single-label": "false", "dns-dead-grace": "2s",
		"limits-member-endpoints": "9", "metrics-listen": "127.0.0.1:9798", "history-max": "2MiB", "history-age": "2h", "test-peers": "false",
	}
	file := strings.NewReplacer("dns-intercept", "dns_intercept", "dns-address", "dns_address", "consul-ca-file", "consul.ca_file", "consul-", "consul.", "dns-", "dns.", "limits-", "limits.")
	for _, k := range Keys() {
		if k.Flag == "log-level" || k.Flag == "consul" {
			continue
		}
		value := other[k.Flag]
		if value == "" {
			value = "/elsewhere"
		}
		next, err := Load("", map[string]string{k.Flag: value})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.ReplaceAll(file.Replace(k.Flag), "-", "_")
		if err := running.Reload(next); !errors.Is(err, ErrRestart) || !strings.HasPrefix(strings.ReplaceAll(err.Error(), ",", ":"), "reload: "+want+":") {
			t.Errorf("a changed %s: got %v, want it to name %s", k.Flag, err, want)
		}
	}
}

func TestAddressesOfConsul(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"http://192.0.2.10:8500":               "http://192.0.2.10:8500",
		"http://192.0.2.10:8500/":              "http://192.0.2.10:8500",
		" HTTP://192.0.2.10:8500// ":           "http://192.0.2.10:8500",
		"https://consul.example.com":           "https://consul.example.com",
		"unix:///run/consul.sock":              "unix:///run/consul.sock",
		"http://a:8500, http://b:8500/,":       "http://a:8500,http://b:8500",
		"http://[2001:db8::1]:8500":            "http://[2001:db8::1]:8500",
		"http://192.0.2.10:8500,unix:///run/c": "http://192.0.2.10:8500,unix:///run/c",
	} {
		if got, err := Consul(text); err != nil || got != want {
			t.Errorf("%q: got %q (%v), want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"foo": "is no URL", "192.0.2.10:8500": "is no URL", "http://": "is no URL", "ftp://192.0.2.10": "is no URL", "unix://consul.sock": "is no URL",
		"http://192.0.2.10:8500/ui/":                       "Consul's API is at http://192.0.2.10:8500",
		"http://192.0.2.10:8500/v1":                        "Consul's API is at http://192.0.2.10:8500",
		"http://192.0.2.10:8500?dc=one":                    "Consul's API is at http://192.0.2.10:8500",
		"http://192.0.2.10:8500,http://192.0.2.11:8500/v1": "Consul's API is at http://192.0.2.11:8500",
	} {
		if _, err := Consul(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// A file has one address or a list of them, and names the key when one is wrong.
func TestAddressesOfConsulInTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"consul: {url: 'http://a:8500/'}":                 "http://a:8500",
		"consul:\n  url: [http://a:8500, http://b:8500/]": "http://a:8500,http://b:8500",
		"consul:\n  url: http://a:8500,http://b:8500":     "http://a:8500,http://b:8500",
		"consul: {url: ''}":                               "",
	} {
		cfg, err := parse(strings.NewReader(text))
		if err != nil || cfg.Store.Consul != want {
			t.Errorf("%s: got %q (%v), want %q", text, cfg.Store.Consul, err, want)
		}
	}
	for _, text := range []string{"consul: {url: 'http://a:8500/ui'}", "consul: {url: {a: b}}", "consul: {url: [[a]]}"} {
		if _, err := parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "url") {
			t.Errorf("%s: got %v, want an error that names the key", text, err)
		}
	}
}

func TestSizesOfTheHistory(t *testing.T) {
	for text, want := range map[string]int64{"1MiB": 1 << 20, "64MiB": 64 << 20, "1 GiB": 1 << 30, "2048KiB": 2 << 20, "1048576": 1 << 20,
		"0": 0, "1KiB": 0, "-1MiB": 0, "64MB": 0, "9999999GiB": 0, "": 64 << 20} {
		cfg, err := parse(strings.NewReader("history_max: " + strconv.Quote(text)))
		if want == 0 && (err == nil || !strings.Contains(err.Error(), "history_max")) || want > 0 && (err != nil || cfg.History.Max != want) {
			t.Errorf("%q: %d, %v", text, cfg.History.Max, err)
		}
	}
	if _, err := parse(strings.NewReader("history_age: 5m")); err == nil {
		t.Error("five minutes are a history")
	}
}

func TestConflistsAreKeptByTheMachinesAgentOnly(t *testing.T) {
	cfg := Default()
	if got := cfg.ConflistDir(); got != "/etc/cni/net.d" {
		t.Errorf("default: %q", got)
	}
	cfg.RunDir = "/tmp/run"
	if got := cfg.ConflistDir(); got != "" {
		t.Errorf("another run directory: %q", got)
	}
	cfg.CNIConf = "/tmp/net.d"
	if got := cfg.ConflistDir(); got != "/tmp/net.d" {
		t.Errorf("given: %q", got)
	}
	cfg = Default()
	cfg.CNIConf = "none"
	if got := cfg.ConflistDir(); got != "" {
		t.Errorf("none: %q", got)
	}
}

// Whatever the file holds, it is either refused as a configuration or one that the
// agent can start with.
func FuzzFile(f *testing.F) {
	f.Add(DefaultYAML)
	f.Add("name: host1\nconsul: {url: ['http://192.0.2.1:8500', 'http://192.0.2.2:8500']}\ndns: {ttl: 5s, upstreams: [192.0.2.53]}\n")
	f.Add("pool: 10.64.0.0/10\navoid: [192.0.2.0/24]\nlimits: {member_endpoints: 5}\n")
	f.Add("name: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(strings.NewReader(text))
		switch {
		case err != nil && !errors.Is(err, ErrInvalid):
			t.Errorf("the error is none of a configuration: %v", err)
		case err == nil && c.Check() != nil:
			t.Errorf("accepted, but: %v", c.Check())
		}
	})
}

// A machine that is renamed is called otherwise at once; a name that was given stays.
func TestHostIsCalledAsItsMachineIs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to rename a machine of its own")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		t.Fatal(err)
	}
	rename := func(name string) {
		if err := unix.Sethostname([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	rename("before.example.com")
	cfg := Default()
	given := cfg
	given.Name = "given"
	rename("After.example.com")
	if got := cfg.Called(); cfg.Name != "before" || got != "after" {
		t.Errorf("%s is called %s, want after", cfg.Name, got)
	}
	if got := given.Called(); got != "given" {
		t.Errorf("called %s, want given", got)
	}
}
