// Package discovery holds the words in which the parts speak of the cluster:
// members, networks, endpoints, blocks, and the views of them. It does nothing:
// discovery/table merges what the members say, discovery/gossip moves the bytes,
// discovery/pool keeps networks and blocks, discovery/ipam hands out addresses.
package discovery
