package overlay

import (
	"fmt"
	"strings"
)

// Interface names fit in 15 characters: a letter for the role and the VNI in
// six hex digits, or the first twelve hex digits of an endpoint's id.

// BridgeName is the bridge of a network, in the fabric.
func BridgeName(vni uint32) string { return fmt.Sprintf("b%06x", vni) }

// VXLANName is the VXLAN device of a network, in the fabric.
func VXLANName(vni uint32) string { return fmt.Sprintf("v%06x", vni) }

// GatewayName is the gateway port of a network, in the host namespace.
func GatewayName(vni uint32) string { return fmt.Sprintf("g%06x", vni) }

// GatewayPeerName is the bridge's end of the gateway port, in the fabric.
func GatewayPeerName(vni uint32) string { return fmt.Sprintf("p%06x", vni) }

// EndpointName is the bridge's end of an endpoint's veth, in the fabric.
func EndpointName(id string) string { return "k" + short(id) }

// WaitingName is the sandbox end of an endpoint's veth while it waits in the
// host namespace for a runtime to fetch it.
func WaitingName(id string) string { return "w" + short(id) }

func short(id string) string { return id[:min(len(id), 12)] }

// aliasPrefix begins the alias of every link that is ours. The version is that
// of the alias, not of the program.
const aliasPrefix = "weft v1 "

// networkAlias is the alias (ip-link(8)) of a network's links. It is how a
// restarted agent, with no memory, knows them as its own.
func networkAlias(cluster string, n Network) string {
	return fmt.Sprintf("%scluster=%s net=%s vni=%06x name=%s", aliasPrefix, cluster, n.ID, n.VNI, n.Name)
}

// EndpointAlias is the alias of the fabric end of an endpoint's veth.
func EndpointAlias(cluster, network, id string) string {
	return fmt.Sprintf("%scluster=%s net=%s ep=%s", aliasPrefix, cluster, network, id)
}

// OursByAlias reports whether a link with this alias was made by us.
func OursByAlias(alias string) bool { return strings.HasPrefix(alias, aliasPrefix) }

// AliasName is the name of the device with an alias of ours, by its kind (bridge,
// vxlan or veth) and place; false when it is none of ours.
func AliasName(alias, kind string, place Place) (name string, ok bool) {
	if id, ok := AliasEndpoint(alias); ok {
		return EndpointName(id), place == Fabric && kind == "veth"
	}
	if !OursByAlias(alias) {
		return "", false
	}
	for field := range strings.FieldsSeq(alias) {
		vni, ok := strings.CutPrefix(field, "vni=")
		if !ok || len(vni) != 6 {
			continue
		}
		switch {
		case kind == "bridge" && place == Fabric:
			return "b" + vni, true
		case kind == "vxlan" && place == Fabric:
			return "v" + vni, true
		case kind == "veth" && place == Fabric:
			return "p" + vni, true
		case kind == "veth":
			return "g" + vni, true
		}
	}
	return "", false
}

// AliasEndpoint returns the endpoint id in the alias of a link, and false if
// the link is not ours or not an endpoint's.
func AliasEndpoint(alias string) (id string, ok bool) { return aliasField(alias, "ep=") }

// aliasField returns what an alias of ours has behind a field's name.
func aliasField(alias, name string) (value string, ok bool) {
	if !OursByAlias(alias) {
		return "", false
	}
	for field := range strings.FieldsSeq(alias) {
		if value, ok := strings.CutPrefix(field, name); ok {
			return value, true
		}
	}
	return "", false
}
