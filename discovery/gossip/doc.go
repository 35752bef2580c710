// Package gossip keeps the table of discovery/table equal on all members: it finds
// out who is alive with memberlist, and moves the bytes of the messages that the
// table's exchange wants sent. What a state means, which of two wins and what to
// ask for, discovery/table decides.
package gossip
