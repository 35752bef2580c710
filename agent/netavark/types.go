package netavark

import "encoding/json"

// network is podman's configuration of a network. Create changes few of its
// keys and gives all others back as they came, so it is kept as it is.
type network map[string]json.RawMessage

// container is what setup and teardown get on stdin (plugin-API.md of netavark).
type container struct {
	ID      string        `json:"container_id"`
	Name    string        `json:"container_name"`
	Ports   []portMapping `json:"port_mappings"`
	Network network       `json:"network"`
	Options struct {
		Aliases   []string `json:"aliases"`
		Interface string   `json:"interface_name"`
		IPs       []string `json:"static_ips"`
		MAC       string   `json:"static_mac"`
	} `json:"network_options"`
}

type portMapping struct {
	ContainerPort int    `json:"container_port"`
	HostIP        string `json:"host_ip"` // empty: every address
	HostPort      int    `json:"host_port"`
	Protocol      string `json:"protocol"` // tcp when empty, several joined by commas
	Range         int    `json:"range"`    // ports counting up; 0 is 1
}

// status is the answer of setup.
type status struct {
	Search     []string            `json:"dns_search_domains"`
	Servers    []string            `json:"dns_server_ips"`
	Interfaces map[string]netIface `json:"interfaces"`
}

type netIface struct {
	MAC     string       `json:"mac_address"`
	Subnets []netAddress `json:"subnets"`
}

type netAddress struct {
	Gateway string `json:"gateway,omitempty"`
	IPNet   string `json:"ipnet"`
}

type subnet struct {
	Subnet  string          `json:"subnet"`
	Gateway string          `json:"gateway,omitempty"`
	Range   json.RawMessage `json:"lease_range,omitempty"`
}
