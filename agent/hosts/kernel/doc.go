// Package kernel tests what weft promises on the kernel that its users have: tests of the
// other packages, run once more in a machine with Debian 12's own.
package kernel
