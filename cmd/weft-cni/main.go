// Command weft-cni is the CNI plugin, installed as weft in the CNI bin
// directory.
package main

import (
	"os"

	"github.com/weft-net/weft/agent/cni"
)

func main() {
	if !cni.Run() {
		os.Exit(1)
	}
}
