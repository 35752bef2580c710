// Command weft-netavark is podman's network plugin, installed as weft in a
// netavark plugin directory.
package main

import (
	"os"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/netavark"
)

func main() {
	p := netavark.Plugin{
		Dial:  func(socket string) netavark.Agent { return api.NewClient(socket) },
		Stdin: os.Stdin, Stdout: os.Stdout,
	}
	if !p.Run(os.Args[1:]) {
		os.Exit(1)
	}
}
