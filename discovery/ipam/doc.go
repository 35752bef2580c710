// Package ipam hands out the addresses of this host's own blocks, each
// persisted before it is used. It does not decide who owns a block: the pool
// does, and is asked only when the blocks in hand do not suffice or an address
// outside them is wanted.
package ipam
