// Package overlay makes one host's kernel carry the overlay: it compares the
// desired State with what the kernel has and programs the difference. It
// decides nothing about the cluster: who lives where is handed to it.
package overlay
