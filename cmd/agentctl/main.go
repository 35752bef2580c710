// Command agentctl asks the weft agent of this host to do something, or shows
// what it knows. All it does goes over the agent's unix socket; it keeps no
// state and decides nothing.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
