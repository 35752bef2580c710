package docker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// portMap is one published port, as the engine gives it: several host ports are
// a choice, none is any.
type portMap struct {
	Proto       uint8
	Port        uint16
	HostIP      string
	HostPort    uint16
	HostPortEnd uint16
}

// String is the mapping in the notation of docker run -p. Newer engines give one
// for each family when the user named no address: both are every address.
func (p portMap) String() string {
	text := strconv.Itoa(int(p.Port)) + "/" + protocol(p.Proto)
	switch {
	case p.HostPortEnd > p.HostPort:
		text = fmt.Sprintf("%d-%d:%s", p.HostPort, p.HostPortEnd, text)
	case p.HostPort != 0:
		text = fmt.Sprintf("%d:%s", p.HostPort, text)
	case p.HostIP != "":
		text = ":" + text
	}
	if ip := net.ParseIP(p.HostIP); ip == nil || ip.IsUnspecified() {
		return text
	}
	return p.HostIP + ":" + text
}

// protocol is the number's name of RFC 5237, section 3.2; the agent says which
// it publishes.
func protocol(number uint8) string {
	names := map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}
	if name, ok := names[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}

type connectivityRequest struct {
	EndpointID string
	Options    struct {
		Ports []portMap `json:"com.docker.network.portmap"`
	}
}

// programConnectivity publishes the ports of the endpoint through which its
// container reaches the world. What fails here undoes the whole `docker run`.
func (d *driver) programConnectivity(ctx context.Context, q connectivityRequest) (nothing, error) {
	var ports []string
	for _, p := range q.Options.Ports {
		if text := p.String(); !slices.Contains(ports, text) {
			ports = append(ports, text)
		}
	}
	if len(ports) == 0 {
		return nothing{}, nil
	}
	return nothing{}, d.agent.Publish(ctx, q.EndpointID, ports)
}

func (d *driver) revokeConnectivity(ctx context.Context, q connectivityRequest) (nothing, error) {
	return nothing{}, d.agent.Unpublish(ctx, q.EndpointID)
}
