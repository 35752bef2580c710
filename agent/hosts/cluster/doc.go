// Package cluster is the tests of members and of what they agree on: hosts that
// join, leave, die and are replaced, stores that are lost, agents that are killed,
// and a thousand endpoints that come and go.
package cluster
