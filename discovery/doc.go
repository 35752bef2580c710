// Package discovery holds what the cluster knows: members, networks, endpoints,
// and the table that merges the states of their owners. It does no I/O: bytes
// are moved by discovery/gossip, networks are kept by discovery/pool.
package discovery
