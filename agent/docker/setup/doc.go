// Package setup tells a Docker engine to ask this host's DNS server: it edits
// the engine's daemon.json and says whether the engine's containers reach the
// server at all. It does not ask the engine.
package setup

// Address is where every container of this host can ask, whatever its network.
const Address = "169.254.53.53"

// File is the engine's configuration on most hosts.
const File = "/etc/docker/daemon.json"
