// Package agent assembles one member of the overlay from its parts and carries
// each request through them: lease, attach, announce. It is the only place
// where the vocabularies of discovery, overlay and dns meet (plan.go); it does
// not speak netlink, gossip, Consul or DNS itself.
package agent
