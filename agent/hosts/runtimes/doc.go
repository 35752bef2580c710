// Package runtimes is the tests of the other runtimes, podman, containerd and the
// callers of our CNI and netavark plugins: alone, and with Docker on one network.
package runtimes
