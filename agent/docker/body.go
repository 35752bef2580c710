package docker

// The bodies of the plugin protocol (moby, daemon/libnetwork/drivers/remote/api
// and ipams/remote/api), as far as they are used here.

type activation struct{ Implements []string }

type networkCapability struct{ Scope, ConnectivityScope string }

type ipamCapability struct{ RequiresMACAddress, RequiresRequestReplay bool }

type addressSpaces struct{ LocalDefaultAddressSpace, GlobalDefaultAddressSpace string }

type poolRequest struct {
	AddressSpace string
	Pool         string
	SubPool      string
	Options      map[string]string
	V6           bool
}

type poolAnswer struct {
	PoolID string
	Pool   string
	Data   map[string]string
}

type addressRequest struct {
	PoolID  string
	Address string
	Options map[string]string
}

type addressAnswer struct {
	Address string
	Data    map[string]string
}

type ipamData struct {
	AddressSpace string
	Pool         string
	Gateway      string
	AuxAddresses map[string]string
}

type networkRequest struct {
	NetworkID string
	Options   networkOptions
	IPv4Data  []ipamData
	IPv6Data  []ipamData
}

type networkOptions struct {
	Internal bool              `json:"com.docker.network.internal"`
	IPv6     bool              `json:"com.docker.network.enable_ipv6"`
	Generic  map[string]string `json:"com.docker.network.generic"`
}

type endpointRequest struct {
	NetworkID  string
	EndpointID string
	Interface  endpointInterface
	SandboxKey string // of Join
}

type endpointInterface struct {
	Address     string
	AddressIPv6 string
	MacAddress  string
}

// endpointAnswer holds only what the request left to the driver: a field that
// repeats what was given is an error for Docker.
type endpointAnswer struct {
	Interface struct {
		MacAddress string `json:",omitempty"`
	}
}

type operInfo struct{ Value map[string]string }

type joinAnswer struct {
	InterfaceName struct{ SrcName, DstPrefix string }
	Gateway       string
}

type failure struct{ Err string }
