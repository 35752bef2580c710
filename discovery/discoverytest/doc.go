// Package discoverytest is a cluster in memory: hosts whose tables are kept
// equal by the same code as in production, over links that a test can cut, slow
// down, reorder and make lose or repeat messages. It opens no socket and starts
// no goroutine of its own; time moves when the test says so.
package discoverytest
