// Package agent assembles one member of the overlay from its parts, takes each
// request through them, and hands the cluster's state to this host's kernel and
// DNS server, pass by pass (loop.go). What each part does is in its own package:
// this one does not speak netlink, gossip, Consul or DNS.
package agent
