// Package endpoints is the tests of what an endpoint has, whichever runtime it
// is of: its name on every host, a resolver, published ports, several networks,
// whole packets and nobody else's.
package endpoints
