// Package netavark translates between podman's netavark plugin API and the
// agent's. It holds no state.
package netavark
