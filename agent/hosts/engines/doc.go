// Package engines is the tests of Docker engines that come and go: hosts whose
// engines and agents boot, stop, are killed and come back in any order, under
// many containers at once, and with the newest engine there is.
package engines
