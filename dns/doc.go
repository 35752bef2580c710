// Package dns answers queries for endpoint names from a zone held in memory
// and forwards every other query to the host's resolvers. It does not know how
// the zone came about, and it caches nothing.
package dns
