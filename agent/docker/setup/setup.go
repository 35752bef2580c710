package setup

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxServers is how many servers a resolver asks, resolv.conf(5).
const maxServers = 3

// Insert returns a daemon.json in which containers ask Address first and then
// the servers that they asked before: those of the file or, if it names none,
// up to two of upstreams. Nothing else in the text changes, and nothing at all
// when it is so already. The error names the line.
func Insert(text []byte, upstreams []string) ([]byte, error) {
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
	return o.with("dns", list(append([]string{Address}, servers...))), nil
}

// Remove returns a daemon.json with the servers that before has, which is the
// file as it was before Insert; nil: there was none. What was changed in the
// file since stays. It returns nil when nothing is left of the file.
func Remove(text, before []byte) ([]byte, error) {
	now, err := parse(text)
	if err != nil {
		return nil, err
	}
	old, err := parse(before)
	if err != nil {
		return nil, fmt.Errorf("the file before: %w", err)
	}
	out := now.without("dns")
	if m := old.find("dns"); m != nil {
		out = now.with("dns", old.text[m.value:m.end])
	}
	left, err := parse(out)
	if err != nil {
		return nil, err
	}
	switch {
	case before == nil && len(left.members) == 0:
		return nil, nil
	case before != nil && left.equal(old):
		return before, nil
	}
	return out, nil
}

// equal compares what the texts mean, key by key.
func (o *object) equal(other object) bool {
	same := func(m member) bool {
		n := other.find(m.key)
		return n != nil && string(o.text[m.value:m.end]) == string(other.text[n.value:n.end])
	}
	return len(o.members) == len(other.members) && !slices.ContainsFunc(o.members, func(m member) bool { return !same(m) })
}

// Servers are the DNS servers that a daemon.json names for all containers.
func Servers(text []byte) ([]string, error) {
	o, err := parse(text)
	if err != nil {
		return nil, err
	}
	return o.servers()
}

func (o *object) servers() (servers []string, err error) {
	m := o.find("dns")
	if m == nil {
		return nil, nil
	}
	if err := json.Unmarshal(o.text[m.value:m.end], &servers); err != nil {
		line := 1 + strings.Count(string(o.text[:m.value]), "\n")
		return nil, fmt.Errorf("line %d: \"dns\" is no list of addresses: %w", line, err)
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

func list(servers []string) []byte {
	quoted := make([]string, len(servers))
	for i, s := range servers {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return []byte("[" + strings.Join(quoted, ", ") + "]")
}
