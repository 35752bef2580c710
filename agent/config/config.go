// Package config is what an operator may set of an agent: the file agentd.yaml,
// the flags of the same meaning, and what a reload applies. Every Config that it
// returns has been checked.
package config

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

// Config is the checked configuration of one agent. Load and Default make
// ones that cannot be wrong; Check says what is wrong with any other.
type Config struct {
	Name      string         // of this host: a DNS label
	Machine   string         // what the machine was called when Name was taken from it
	Advertise netip.Addr     // gossip, tunnel and API address towards other members
	RunDir    string         // holds agentd.sock
	DataDir   string         // holds everything that survives a restart
	Fabric    string         // name below /run/netns, or a path
	LogLevel  slog.Level     //
	LogFormat string         // "text" or "json"
	Store     Store          //
	Docker    Docker         //
	Domain    string         // of names, without dots around it; init decides it for the cluster
	Pool      netip.Prefix   // for automatic subnets; init decides it for the cluster
	Ports     Ports          //
	Profile   string         // "lan" or "wan"; init decides it for the cluster
	DNS       DNS            //
	CNIConf   string         // directory of conflists, or "none"; empty: /etc/cni/net.d with the default RunDir, else none
	Avoid     []netip.Prefix // no automatic subnet overlaps these, on any host
	Limits    Limits
	// MetricsListen is where Prometheus scrapes; zero: nowhere but at the sockets.
	MetricsListen netip.AddrPort
	History       History
}

// Store says where the pool is kept.
type Store struct {
	Consul    string // URL of a Consul agent, or several with commas between, asked in turn; empty: the embedded store
	Prefix    string // of all keys, "weft/v1/"
	TokenFile string // with the Consul ACL token; empty: CONSUL_HTTP_TOKEN[_FILE]
	CAFile    string // PEM; empty: the system's
	Embedded  string // unix socket that agents of one machine share; empty: <data-dir>/store.db, in process
}

// String says where in words that follow "the store".
func (s Store) String() string {
	if s.Consul != "" {
		return " in Consul at " + strings.ReplaceAll(s.Consul, ",", ", ")
	}
	return " of this machine (embedded)"
}

// Limits bound what others may make this host hold.
type Limits struct {
	MemberEndpoints int  // of one other member
	TestPeers       bool // members may make endpoints of the connectivity suite here
}

// Docker says where this host's Docker is.
type Docker struct {
	Socket     string // of the engine's API
	DaemonJSON string // the engine's configuration
	Plugin     string // that the engine looks for us at; empty: this agent has nothing to do with Docker
}

// defaultRunDir is that of the one agent which a host usually has.
const defaultRunDir = "/run/weft"

// Ports is the ports that all members share.
type Ports struct {
	Gossip uint16 // TCP and UDP
	Tunnel uint16 // UDP
}

// DNS is the embedded DNS server's.
type DNS struct {
	TTL           time.Duration
	Grace         time.Duration    // a dead member's names stay this long
	Upstreams     []netip.AddrPort // empty: those of ResolvConf
	ResolvConf    string
	ForwardSingle bool // forward single-label names that no network has
	// Intercept says which questions of endpoints to servers elsewhere are
	// answered here.
	Intercept Intercept
	// Address says whether 169.254.53.53 is an address of this host.
	Address AddressMode
}

// Intercept is a value of dns_intercept.
type Intercept string

// The questions that are answered here.
const (
	InterceptAll       Intercept = "all"       // whatever the server
	InterceptUpstreams Intercept = "upstreams" // to the resolvers that container engines ask
	InterceptOff       Intercept = "off"
)

// AddressMode is a value of dns_address.
type AddressMode string

// When 169.254.53.53 is an address of this host.
const (
	AddressAuto AddressMode = "auto" // while Docker's daemon.json sends containers there
	AddressOn   AddressMode = "on"
	AddressOff  AddressMode = "off"
)

// ErrInvalid is wrapped by every error about what a file or a flag says.
var ErrInvalid = errors.New("configuration")

// DefaultYAML is the reference configuration: every key with its default. It is
// what `agentd config print-default` prints, and a test parses it.
//
//go:embed agentd.yaml
var DefaultYAML string

// Default returns the configuration of an empty file, with the host's own name.
func Default() Config {
	cfg, err := parse(strings.NewReader(""))
	if err != nil {
		panic("the empty configuration must be valid: " + err.Error())
	}
	return cfg
}

// raw is the file's shape: strings for everything that has a form of its own,
// pointers where the zero value is a value.
type raw struct {
	Name          string   `yaml:"name"`
	Advertise     string   `yaml:"advertise"`
	RunDir        string   `yaml:"run_dir"`
	DataDir       string   `yaml:"data_dir"`
	Fabric        string   `yaml:"fabric"`
	CNIConfDir    string   `yaml:"cni_conf_dir"`
	LogLevel      string   `yaml:"log_level"`
	LogFormat     string   `yaml:"log_format"`
	EmbeddedStore string   `yaml:"embedded_store"`
	DockerSocket  string   `yaml:"docker_socket"`
	DockerPlugin  string   `yaml:"docker_plugin_socket"`
	DockerJSON    string   `yaml:"docker_daemon_json"`
	Domain        string   `yaml:"domain"`
	Pool          string   `yaml:"pool"`
	GossipPort    uint16   `yaml:"gossip_port"`
	TunnelPort    uint16   `yaml:"tunnel_port"`
	Profile       string   `yaml:"profile"`
	Avoid         []string `yaml:"avoid"`
	MetricsListen string   `yaml:"metrics_listen"`
	DNSIntercept  string   `yaml:"dns_intercept"`
	DNSAddress    string   `yaml:"dns_address"`
	HistoryMax    string   `yaml:"history_max"`
	HistoryAge    string   `yaml:"history_age"`
	TestPeers     *bool    `yaml:"test_peers"`
	Consul        struct {
		URL       urls   `yaml:"url"`
		Prefix    string `yaml:"prefix"`
		TokenFile string `yaml:"token_file"`
		CAFile    string `yaml:"ca_file"`
	} `yaml:"consul"`
	DNS struct {
		TTL                string   `yaml:"ttl"`
		Upstreams          []string `yaml:"upstreams"`
		ResolvConf         string   `yaml:"resolv_conf"`
		ForwardSingleLabel *bool    `yaml:"forward_single_label"`
		DeadGrace          string   `yaml:"dead_grace"`
	} `yaml:"dns"`
	Limits struct {
		MemberEndpoints uint16 `yaml:"member_endpoints"`
	} `yaml:"limits"`
}

// parse is Load of what r has, without flags.
func parse(r io.Reader) (Config, error) {
	in, err := readRaw(r)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	cfg, err := in.typed()
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return cfg, nil
}

// decodeRaw is strict: an error names the line, the key and shows the place.
func decodeRaw(b []byte) (in raw, err error) {
	defer func() {
		if recover() != nil { // the decoder's, on some tags with nothing behind them
			in, err = raw{}, errors.New("a tag (!...) in it cannot be read")
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&in)
	if err != nil && !errors.Is(err, io.EOF) {
		return raw{}, errors.New(yaml.FormatError(plainly(err), false, true))
	}
	return in, nil
}

// plainly says what belongs in the place of a value that does not fit, where the
// decoder would name types of Go's.
func plainly(err error) error {
	wrong, isType := errors.AsType[*yaml.TypeError](err)
	large, isLarge := errors.AsType[*yaml.OverflowError](err)
	switch {
	case isType:
		want := map[reflect.Kind]string{reflect.String: "a text", reflect.Bool: "true or false", reflect.Uint16: number, reflect.Slice: "a list"}
		return &yaml.SyntaxError{Message: "want " + cmp.Or(want[wrong.DstType.Kind()], "keys and values"), Token: wrong.Token}
	case isLarge:
		return &yaml.SyntaxError{Message: "want " + number, Token: large.Token}
	}
	return err
}

const number = "a number from 0 to 65535"

// typed turns the raw values into typed ones, naming the key at fault.
func (in raw) typed() (Config, error) {
	var errs []error
	fail := func(key, value, want string) {
		errs = append(errs, fmt.Errorf("%s: %q is no %s", key, value, want))
	}
	cfg := Config{
		Name:      in.Name,
		RunDir:    cmp.Or(in.RunDir, defaultRunDir),
		DataDir:   cmp.Or(in.DataDir, "/var/lib/weft"),
		Fabric:    cmp.Or(in.Fabric, "weft"),
		LogFormat: cmp.Or(in.LogFormat, "text"),
		Domain:    strings.ToLower(strings.Trim(cmp.Or(in.Domain, "weft.internal"), ".")),
		Profile:   cmp.Or(in.Profile, "lan"),
		CNIConf:   in.CNIConfDir,
		Ports: Ports{
			Gossip: cmp.Or(in.GossipPort, 4798),
			Tunnel: cmp.Or(in.TunnelPort, 4799),
		},
		Store: Store{
			Consul:    string(in.Consul.URL),
			Prefix:    strings.TrimSuffix(cmp.Or(in.Consul.Prefix, "weft/v1"), "/") + "/",
			TokenFile: in.Consul.TokenFile,
			CAFile:    in.Consul.CAFile,
			Embedded:  in.EmbeddedStore,
		},
		Docker: Docker{Socket: cmp.Or(in.DockerSocket, "/run/docker.sock"), DaemonJSON: cmp.Or(in.DockerJSON, setup.File), Plugin: in.DockerPlugin},
		Limits: Limits{MemberEndpoints: int(cmp.Or(in.Limits.MemberEndpoints, 4096))},
		DNS:    DNS{ResolvConf: cmp.Or(in.DNS.ResolvConf, "/etc/resolv.conf"), ForwardSingle: true},
	}
	if cfg.Name == "" {
		cfg.Machine = hostname()
		cfg.Name = cfg.Machine
	}
	if clean, err := Consul(cfg.Store.Consul); err == nil { // else Check says what is wrong
		cfg.Store.Consul = clean
	}
	// Several agents of one machine have a run directory each, and one Docker.
	if cfg.Docker.Plugin == "" && cfg.RunDir == defaultRunDir {
		cfg.Docker.Plugin = "/run/docker/plugins/weft.sock"
	}
	if in.Advertise != "" {
		var err error
		if cfg.Advertise, err = netip.ParseAddr(in.Advertise); err != nil {
			fail("advertise", in.Advertise, "IP address")
		}
	}
	if in.MetricsListen != "" {
		var err error
		if cfg.MetricsListen, err = netip.ParseAddrPort(in.MetricsListen); err != nil || cfg.MetricsListen.Port() == 0 {
			fail("metrics_listen", in.MetricsListen, "address with a port such as 127.0.0.1:9798")
		}
	}
	if err := cfg.LogLevel.UnmarshalText([]byte(cmp.Or(in.LogLevel, "info"))); err != nil {
		fail("log_level", in.LogLevel, "level (debug, info, warn, error)")
	}
	var err error
	if cfg.Pool, err = netip.ParsePrefix(cmp.Or(in.Pool, "10.64.0.0/10")); err != nil {
		fail("pool", in.Pool, "subnet such as 10.64.0.0/10")
	}
	for _, s := range in.Avoid {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			fail("avoid", s, "subnet such as 10.0.0.0/16")
		}
		cfg.Avoid = append(cfg.Avoid, p)
	}
	for _, s := range in.DNS.Upstreams {
		u, err := AddrPort(s, 53)
		if err != nil {
			fail("dns.upstreams", s, "resolver address such as 192.0.2.53 or 192.0.2.53:53")
		}
		cfg.DNS.Upstreams = append(cfg.DNS.Upstreams, u)
	}
	cfg.DNS.Intercept = Intercept(cmp.Or(in.DNSIntercept, string(InterceptUpstreams)))
	cfg.DNS.Address = AddressMode(cmp.Or(in.DNSAddress, string(AddressAuto)))
	cfg.Limits.TestPeers = in.TestPeers == nil || *in.TestPeers
	if in.DNS.ForwardSingleLabel != nil {
		cfg.DNS.ForwardSingle = *in.DNS.ForwardSingleLabel
	}
	if cfg.DNS.TTL, err = time.ParseDuration(cmp.Or(in.DNS.TTL, "5s")); err != nil {
		fail("dns.ttl", in.DNS.TTL, "duration such as 5s")
	}
	if cfg.DNS.Grace, err = time.ParseDuration(cmp.Or(in.DNS.DeadGrace, "0s")); err != nil {
		fail("dns.dead_grace", in.DNS.DeadGrace, "duration such as 30s")
	}
	cfg.History = in.history(fail)
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return cfg, cfg.Check()
}

// Check says what is wrong with the configuration, naming the key; nil when
// nothing is.
func (c Config) Check() error {
	switch {
	case !strict.Label(c.Name):
		return fmt.Errorf("name: %q is no DNS label (letters, digits, - and _, at most 63)", c.Name)
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log_format: %q is neither text nor json", c.LogFormat)
	case c.Profile != "lan" && c.Profile != "wan":
		return fmt.Errorf("profile: %q is neither lan nor wan", c.Profile)
	case !c.Pool.IsValid() || !c.Pool.Addr().Is4() || c.Pool.Bits() > 20:
		return fmt.Errorf("pool: %s must be an IPv4 subnet of /20 or larger", c.Pool)
	case c.Pool != c.Pool.Masked():
		return fmt.Errorf("pool: %s has host bits set, the subnet is %s", c.Pool, c.Pool.Masked())
	case c.Ports.Gossip == c.Ports.Tunnel:
		return errors.New("gossip_port and tunnel_port must differ")
	case c.Ports.Tunnel == overlay.RedirectPort:
		return fmt.Errorf("tunnel_port: %d is where containers' questions for names are redirected to", overlay.RedirectPort)
	case c.Store.Consul != "" && c.Store.Embedded != "":
		return errors.New("consul.url and embedded_store exclude each other: give one of them")
	case c.DNS.Intercept != InterceptAll && c.DNS.Intercept != InterceptUpstreams && c.DNS.Intercept != InterceptOff:
		return fmt.Errorf("dns_intercept: %q is none of all, upstreams, off", c.DNS.Intercept)
	case c.DNS.Address != AddressAuto && c.DNS.Address != AddressOn && c.DNS.Address != AddressOff:
		return fmt.Errorf("dns_address: %q is none of auto, on, off", c.DNS.Address)
	case c.DNS.TTL < 0 || c.DNS.Grace < 0:
		return errors.New("dns.ttl and dns.dead_grace must not be negative")
	case c.Advertise.IsValid() && (c.Advertise.IsUnspecified() || c.Advertise.IsMulticast()):
		return fmt.Errorf("advertise: %s is no address of one host", c.Advertise)
	}
	if strings.Contains(c.Fabric, "/") && !filepath.IsAbs(c.Fabric) {
		return fmt.Errorf("fabric: %q is neither a name nor an absolute path", c.Fabric)
	}
	if d := c.ConflistDir(); d != "" && !filepath.IsAbs(d) {
		return fmt.Errorf("cni_conf_dir: %q is no absolute path", d)
	}
	if _, err := Consul(c.Store.Consul); err != nil {
		return fmt.Errorf("consul.url: %w", err)
	}
	if err := c.History.check(); err != nil {
		return err
	}
	for _, label := range strings.Split(c.Domain, ".") {
		if !strict.Label(label) {
			return fmt.Errorf("domain: %q is no DNS label in %q", label, c.Domain)
		}
	}
	return nil
}

// ConflistDir is where conflists go; empty: none are kept. Of several agents on
// one machine only that of the default run directory speaks for the machine's
// container runtimes.
func (c Config) ConflistDir() string {
	switch {
	case c.CNIConf == "none":
		return ""
	case c.CNIConf == "" && c.RunDir == defaultRunDir:
		return "/etc/cni/net.d"
	}
	return c.CNIConf
}

// Socket is the path of the API socket.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "agentd.sock") }

// AddrPort reads an address with or without a port, which is port then.
func AddrPort(s string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, port), nil
	}
	return netip.ParseAddrPort(s)
}
