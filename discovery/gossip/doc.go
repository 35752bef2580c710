// Package gossip keeps the table of discovery/table equal on all members: it finds
// out who is alive with memberlist, and moves the bytes of the messages that the
// table's exchange wants sent. What the states mean, which of two wins and what is
// to be asked for is decided there.
package gossip
