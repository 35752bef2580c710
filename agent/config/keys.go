package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/weft-net/weft/agent/docker/setup"
)

// Key is one configuration key as a command-line flag.
type Key struct {
	Flag  string // such as "run-dir"
	Value string // what it takes, for the help: "DIR"
	Usage string
	set   func(in *raw, v string) error
}

// Keys are all configuration keys, in the order of the reference configuration.
func Keys() []Key {
	return []Key{
		text("name", "NAME", "name of this host, a DNS label (default: the first label of the hostname)", func(in *raw) *string { return &in.Name }),
		text("advertise", "IP", "address for gossip and tunnel (default: the source address of the default route)", func(in *raw) *string { return &in.Advertise }),
		text("run-dir", "DIR", "holds agentd.sock (default /run/weft)", func(in *raw) *string { return &in.RunDir }),
		text("data-dir", "DIR", "holds what survives a restart (default /var/lib/weft)", func(in *raw) *string { return &in.DataDir }),
		text("fabric", "NAME|PATH", "network namespace of bridges and VXLAN devices (default weft)", func(in *raw) *string { return &in.Fabric }),
		text("cni-conf-dir", "DIR|none", "a CNI conflist for each network is kept here (default /etc/cni/net.d with run-dir /run/weft, else none)", func(in *raw) *string { return &in.CNIConfDir }),
		text("log-level", "LEVEL", "debug, info, warn or error (default info)", func(in *raw) *string { return &in.LogLevel }),
		text("log-format", "FORMAT", "text or json (default text)", func(in *raw) *string { return &in.LogFormat }),
		{Flag: "consul", Value: "URL,...", Usage: "keep networks and blocks in Consul; several are asked in turn (default: the embedded store)", set: func(in *raw, v string) error {
			in.Consul.URL = urls(v)
			return nil
		}},
		text("consul-prefix", "PREFIX", "begins all keys (default weft/v1)", func(in *raw) *string { return &in.Consul.Prefix }),
		text("consul-token-file", "FILE", "holds the Consul ACL token", func(in *raw) *string { return &in.Consul.TokenFile }),
		text("consul-ca-file", "FILE", "PEM of the CA that signed Consul's certificate", func(in *raw) *string { return &in.Consul.CAFile }),
		text("embedded-store", "SOCKET", "unix socket of the store that the agents of this machine share", func(in *raw) *string { return &in.EmbeddedStore }),
		text("docker-socket", "SOCKET", "of this host's Docker engine (default /run/docker.sock)", func(in *raw) *string { return &in.DockerSocket }),
		text("docker-daemon-json", "FILE", "the engine's configuration (default "+setup.File+")", func(in *raw) *string { return &in.DockerJSON }),
		text("docker-plugin-socket", "SOCKET", "at which Docker finds this agent (default /run/docker/plugins/weft.sock, with the default run-dir)", func(in *raw) *string { return &in.DockerPlugin }),
		text("domain", "DOMAIN", "ends all names (default weft.internal)", func(in *raw) *string { return &in.Domain }),
		text("pool", "CIDR", "automatic subnets are taken from here (default 10.64.0.0/10)", func(in *raw) *string { return &in.Pool }),
		port("gossip-port", "of gossip, tcp and udp (default 4798)", func(in *raw) *uint16 { return &in.GossipPort }),
		port("tunnel-port", "of the tunnel, udp (default 4799)", func(in *raw) *uint16 { return &in.TunnelPort }),
		text("profile", "PROFILE", "lan or wan (default lan)", func(in *raw) *string { return &in.Profile }),
		list("avoid", "CIDR,...", "subnets that no automatic subnet may overlap", func(in *raw) *[]string { return &in.Avoid }),
		number16("limits-member-endpoints", "COUNT", "endpoints of one other member that are taken (default 4096)", func(in *raw) *uint16 { return &in.Limits.MemberEndpoints }),
		text("metrics-listen", "IP:PORT", "Prometheus scrapes /metrics there (default: at the sockets only)", func(in *raw) *string { return &in.MetricsListen }),
		text("history-max", "SIZE", "bytes on the disk of what happened here, such as 64MiB (default 64MiB)", func(in *raw) *string { return &in.HistoryMax }),
		text("history-age", "DURATION", "older events are removed (default 720h)", func(in *raw) *string { return &in.HistoryAge }),
		yes("test-peers", "members may run checks of agentctl test here (default true)", func(in *raw) **bool { return &in.TestPeers }),
		text("dns-ttl", "DURATION", "resolvers keep our names this long (default 5s)", func(in *raw) *string { return &in.DNS.TTL }),
		list("dns-upstreams", "IP,...", "resolvers for all other names (default: those of resolv.conf)", func(in *raw) *[]string { return &in.DNS.Upstreams }),
		text("dns-resolv-conf", "FILE", "names this host's resolvers (default /etc/resolv.conf)", func(in *raw) *string { return &in.DNS.ResolvConf }),
		yes("dns-forward-single-label", "forward names without dots that no network has (default true)", func(in *raw) **bool { return &in.DNS.ForwardSingleLabel }),
		text("dns-intercept", "WHICH", "containers' questions to servers elsewhere that are answered here: all, upstreams or off (default upstreams)", func(in *raw) *string { return &in.DNSIntercept }),
		text("dns-address", "WHEN", "169.254.53.53 answers this host's containers: on, off or auto (default auto: while Docker's daemon.json names it)", func(in *raw) *string { return &in.DNSAddress }),
		text("dns-dead-grace", "DURATION", "a dead member's names stay this long (default 0s)", func(in *raw) *string { return &in.DNS.DeadGrace }),
	}
}

func text(flag, value, usage string, field func(*raw) *string) Key {
	return Key{Flag: flag, Value: value, Usage: usage, set: func(in *raw, v string) error { *field(in) = v; return nil }}
}

// yes is a key that is true unless it is set.
func yes(flag, usage string, field func(*raw) **bool) Key {
	return Key{Flag: flag, Value: "BOOL", Usage: usage, set: func(in *raw, v string) error {
		b, err := strconv.ParseBool(v)
		*field(in) = &b
		return err
	}}
}

func list(flag, value, usage string, field func(*raw) *[]string) Key {
	return Key{Flag: flag, Value: value, Usage: usage, set: func(in *raw, v string) error { *field(in) = strings.Split(v, ","); return nil }}
}

func port(flag, usage string, field func(*raw) *uint16) Key {
	return number16(flag, "PORT", usage, field)
}

func number16(flag, value, usage string, field func(*raw) *uint16) Key {
	return Key{Flag: flag, Value: value, Usage: usage, set: func(in *raw, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		*field(in) = uint16(n)
		return err
	}}
}

// Load reads the configuration file, if path is not empty, and lets the flags
// that were given win over it: flag names to values. The file is YAML and read
// strictly: an unknown key, a value of the wrong form and a key given twice are
// errors that name the line and the key. Keys that are absent have the defaults of
// DefaultYAML.
func Load(path string, flags map[string]string) (Config, error) {
	var in raw
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		defer func() { _ = f.Close() }()
		if in, err = readRaw(f); err != nil {
			return Config{}, fmt.Errorf("%w %s: %w", ErrInvalid, path, err)
		}
	}
	for _, k := range Keys() {
		if v, ok := flags[k.Flag]; ok {
			if err := k.set(&in, v); err != nil {
				return Config{}, fmt.Errorf("%w: --%s %q is no %s", ErrInvalid, k.Flag, v, strings.ToLower(k.Value))
			}
		}
	}
	cfg, err := in.typed()
	if err != nil && path != "" {
		return Config{}, fmt.Errorf("%w %s: %w", ErrInvalid, path, err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return cfg, nil
}

// ErrRestart is wrapped when a reload finds a changed key that needs a restart.
var ErrRestart = errors.New("a change of it needs a restart")

// Reload says whether a running agent may take next over c: only the log level
// and the address of Consul differ. The error names the other keys that do, as the file
// has them.
func (c Config) Reload(next Config) error { return next.CheckRunning(c.Running()) }

// Running is what a running agent was started with: a digest of each key that needs a
// restart. It tells nobody a value.
func (c Config) Running() map[string]string {
	out := map[string]string{}
	for _, v := range c.values() {
		text, err := json.Marshal(v.value)
		if err != nil {
			text = fmt.Append(nil, v.value)
		}
		sum := sha256.Sum256(text)
		out[v.key] = hex.EncodeToString(sum[:8])
	}
	return out
}

// CheckRunning returns an error that names each key that the running agent has
// otherwise, and that a reload does not apply.
func (c Config) CheckRunning(running map[string]string) error {
	var keys []string
	wanted := c.Running()
	for _, v := range c.values() {
		if had, ok := running[v.key]; ok && had != wanted[v.key] {
			keys = append(keys, v.key)
		}
	}
	if len(keys) > 0 {
		return fmt.Errorf("reload: %s: %w", strings.Join(keys, ", "), ErrRestart)
	}
	return nil
}

type keyValue struct {
	key   string
	value any
}

// Shown is what is set, by the keys of the file; of an address without its password.
func (c Config) Shown() map[string]any {
	out := map[string]any{"log_level": c.LogLevel.String(), "consul.address": redacted(c.Store.Consul)}
	for _, v := range c.values() {
		out[v.key] = v.value
	}
	return out
}

// redacted are URLs, with commas between, without their passwords.
func redacted(all string) string {
	var out []string
	for one := range strings.SplitSeq(all, ",") {
		if u, err := url.Parse(one); err == nil {
			one = u.Redacted()
		}
		out = append(out, one)
	}
	return strings.Join(out, ",")
}

// values are the settings that need a restart, by their keys in the file.
func (c Config) values() []keyValue {
	return []keyValue{
		{"name", c.Name}, {"advertise", c.Advertise}, {"run_dir", c.RunDir}, {"data_dir", c.DataDir}, {"fabric", c.Fabric},
		{"log_format", c.LogFormat},
		{"consul.prefix", c.Store.Prefix},
		{"consul.token_file", c.Store.TokenFile}, {"consul.ca_file", c.Store.CAFile}, {"embedded_store", c.Store.Embedded},
		{"docker_socket", c.Docker.Socket}, {"docker_daemon_json", c.Docker.DaemonJSON}, {"docker_plugin_socket", c.Docker.Plugin}, {"cni_conf_dir", c.CNIConf},
		{"dns_intercept", c.DNS.Intercept}, {"dns_address", c.DNS.Address},
		{"domain", c.Domain}, {"pool", c.Pool},
		{"gossip_port", c.Ports.Gossip}, {"tunnel_port", c.Ports.Tunnel},
		{"profile", c.Profile}, {"avoid", c.Avoid}, {"limits.member_endpoints", c.Limits.MemberEndpoints}, {"metrics_listen", c.MetricsListen},
		{"history_max", c.History.Max}, {"history_age", c.History.Age}, {"test_peers", c.Limits.TestPeers},
		{"dns.ttl", c.DNS.TTL}, {"dns.upstreams", c.DNS.Upstreams}, {"dns.resolv_conf", c.DNS.ResolvConf},
		{"dns.forward_single_label", c.DNS.ForwardSingle}, {"dns.dead_grace", c.DNS.Grace},
	}
}

// readRaw decodes a file strictly; an empty one is the default configuration.
func readRaw(r io.Reader) (raw, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return raw{}, err
	}
	return decodeRaw(b)
}
