// Package page has no code of its own: its tests look at the page of agentctl ui with a
// real browser, of whole hosts in network namespaces and of a cluster that is larger than
// a machine has room for.
package page
