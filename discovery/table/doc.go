// Package table merges the states of all members into one table and says which
// messages keep it equal to the others'. It does no I/O and reads no clock: bytes
// are moved by discovery/gossip, and what the entries mean is package discovery.
package table
