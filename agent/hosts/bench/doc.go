// Package bench is the benchmarks: what weft costs beside what one would use
// instead, on the same machine at the same time (make bench).
package bench
