// Package containers is the tests of what a Docker container gets from weft, by
// Docker's own commands: addresses, names, networks, ports, and a refusal in
// words where it cannot be.
package containers
