// Package hosts is tests only: what weft promises, held by its real programs on
// hosts made of network namespaces (agenttest), with real engines and runtimes,
// and measured by the benchmarks beside them.
package hosts
