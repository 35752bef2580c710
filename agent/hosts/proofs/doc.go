// Package proofs is the tests of what hosts find out about the tunnel between them:
// ports that are blocked at either end or on the way, packets that are too large for a
// hop, and nothing at all while the hosts are busy.
package proofs
