// Package kernel tests what weft promises on the kernel that its users have: tests of the
// other packages, run once more in a machine with Debian 12's own, and a member that is
// such a machine from its installation over reboots and power cuts.
package kernel
