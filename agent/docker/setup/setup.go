package setup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tailscale/hujson"
)

// maxServers is how many servers a resolver asks, resolv.conf(5).
const maxServers = 3

// insert returns a daemon.json in which containers ask Address first and then
// the servers that they asked before: those of the file or, if it names none,
// up to two of upstreams. Nothing else in the text changes, and nothing at all
// when it is so already. The error names the line.
func insert(text []byte, upstreams []string) ([]byte, error) {
	o, err := parse(text)
	if err != nil {
		return nil, err
	}
	servers, err := o.servers()
	if err != nil {
		return nil, err
	}
	if len(servers) > 0 && servers[0] == Address {
		return text, nil
	}
	if len(servers) == 0 {
		servers = upstreams[:min(len(upstreams), maxServers-1)]
	}
	servers = slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return s == Address })
	o.set("dns", list(append([]string{Address}, servers...)))
	return o.root.Pack(), nil
}

// remove returns a daemon.json with the servers that before has, which is the
// file as it was before insert; nil: there was none. What was changed in the
// file since stays. It returns nil when nothing is left of the file.
func remove(text, before []byte) ([]byte, error) {
	now, err := parse(text)
	if err != nil {
		return nil, err
	}
	old, err := parse(before)
	if err != nil {
		return nil, fmt.Errorf("the file before: %w", err)
	}
	if v := old.find("dns"); v != nil {
		now.set("dns", v.Value)
	} else {
		now.remove("dns")
	}
	switch {
	case before == nil && len(now.Members) == 0:
		return nil, nil
	case before != nil && now.equal(old):
		return before, nil
	}
	return now.root.Pack(), nil
}

// equal compares what the texts mean, key by key.
func (o object) equal(other object) bool {
	return len(o.Members) == len(other.Members) && !slices.ContainsFunc(o.Members, func(m hujson.ObjectMember) bool {
		v := other.find(keyOf(m))
		return v == nil || !bytes.Equal(packed(&m.Value), packed(v))
	})
}

// Servers are the DNS servers that a daemon.json names for all containers.
func Servers(text []byte) ([]string, error) {
	o, err := parse(text)
	if err != nil {
		return nil, err
	}
	return o.servers()
}

func (o object) servers() (servers []string, err error) {
	v := o.find("dns")
	if v == nil {
		return nil, nil
	}
	if err := json.Unmarshal(packed(v), &servers); err != nil {
		return nil, atLine(o.text, v.StartOffset, fmt.Errorf("\"dns\" is no list of addresses: %w", err))
	}
	return servers, nil
}

// LiveRestore reports whether containers outlive a restart of the engine.
func LiveRestore(text []byte) bool {
	var conf struct {
		LiveRestore bool `json:"live-restore"`
	}
	return json.Unmarshal(text, &conf) == nil && conf.LiveRestore
}

func list(servers []string) *hujson.Array {
	a := new(hujson.Array)
	for i, s := range servers {
		v := hujson.Value{Value: hujson.String(s)}
		if i > 0 {
			v.BeforeExtra = hujson.Extra(" ")
		}
		a.Elements = append(a.Elements, v)
	}
	return a
}
