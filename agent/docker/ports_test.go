package docker

import (
	"encoding/json"
	"slices"
	"testing"
)

// What engines send for -p, and what the agent is asked for.
func TestPublishedPortsInDockersNotation(t *testing.T) {
	const body = `{"NetworkID":"n","EndpointID":"e","Options":{"com.docker.network.portmap":[
		{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080},
		{"Proto":6,"IP":"","Port":80,"HostIP":"::","HostPort":8080,"HostPortEnd":8080},
		{"Proto":17,"IP":"","Port":90,"HostIP":"127.0.0.1","HostPort":9090,"HostPortEnd":9090},
		{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8082},
		{"Proto":17,"IP":"","Port":53,"HostIP":"","HostPort":0,"HostPortEnd":0},
		{"Proto":6,"IP":"","Port":53,"HostIP":"192.0.2.1","HostPort":0,"HostPortEnd":0}],
		"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}]}}`
	var q connectivityRequest
	if err := json.Unmarshal([]byte(body), &q); err != nil {
		t.Fatal(err)
	}
	f := newFake()
	d := &driver{agent: agentOf(f)}
	if _, err := d.programConnectivity(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	want := []string{"8080:80/tcp", "127.0.0.1:9090:90/udp", "8080-8082:80/tcp", "53/udp", "192.0.2.1::53/tcp"}
	if !slices.Equal(f.ports["e"], want) {
		t.Errorf("got  %q\nwant %q", f.ports["e"], want)
	}
	if _, err := d.revokeConnectivity(t.Context(), q); err != nil || len(f.ports) != 0 {
		t.Errorf("after revoking: %v, %v", f.ports, err)
	}
}
