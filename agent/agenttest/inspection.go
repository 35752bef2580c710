package agenttest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Inspection is what `docker network inspect` and `agentctl network inspect`
// both say of a network.
type Inspection struct {
	Name     string
	Internal bool
	MTU      int // the agent's answer alone has it
	Labels   map[string]string
	IPAM     struct {
		Config []struct {
			Subnet, Gateway, IPRange string
			AuxiliaryAddresses       map[string]string
		}
	}
	Containers map[string]struct{ Name, MacAddress, IPv4Address, Host string }
}

// Inspect is what Docker says of a network.
func (e *Engine) Inspect(name string) Inspection {
	e.t.Helper()
	return parseInspection(e.t, e.Must("network", "inspect", name))
}

// Inspect is what the agent says of a network, with the endpoints of all hosts.
func (h *Host) Inspect(name string) Inspection {
	h.lab.t.Helper()
	return parseInspection(h.lab.t, h.MustCtl("network", "inspect", name, "-o", "json"))
}

func parseInspection(t testing.TB, out string) Inspection {
	t.Helper()
	var list []Inspection
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("network inspect: %v in %s", err, out)
	}
	return list[0]
}

// Endpoints are the containers as one text, those of one host or of all.
func (n Inspection) Endpoints(host string) string {
	var out []string
	for _, c := range n.Containers {
		if c.Host == host || c.Host == "" || host == "" {
			out = append(out, fmt.Sprintf("%s %s %s", c.Name, c.MacAddress, c.IPv4Address))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
