// Package soak breaks what can break of five hosts under load, at random, for as long as
// it is told, and keeps a ledger of every address and the count of every packet of
// endpoints that no fault touches. A seed begins the same faults again.
package soak
