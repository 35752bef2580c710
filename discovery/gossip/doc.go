// Package gossip keeps a discovery.Table equal on all members: it finds out who
// is alive with memberlist, pushes the own changes to each of them, and pulls
// what a comparison of digests shows to be missing. What the states mean, and
// which of two wins, is decided in package discovery.
package gossip
