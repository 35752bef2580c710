// Package soak breaks what can break of five hosts under load, in random order, for as
// long as it is told: their agents, the kernel below them, the store, the wire between
// them, newcomers and mistyped commands. It keeps a ledger of every address and the
// count of every packet of endpoints that no fault touches. What weft cannot undo,
// status must name, and the line of its hint must end. A seed begins the same faults
// again.
//
// Not among them: a full neighbour table (the limit is one for all namespaces of the
// machine) and a kernel without one of its modules (each is loaded for the machine).
package soak
