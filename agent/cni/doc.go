// Package cni translates between the Container Network Interface and the
// agent's API. It holds no state and touches the kernel only to CHECK.
package cni
