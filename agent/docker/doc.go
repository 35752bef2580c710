// Package docker serves one Docker engine from the agent: as its network and
// IPAM driver "weft", with a Docker network object for each network of the
// cluster, and with the names of its containers. It knows Docker's protocols
// and no part of the overlay; what the calls do is the agent's.
package docker
