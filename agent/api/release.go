package api

// Release is the version of the programs that this package is part of: agentd,
// agentctl and the plugins are built and released together.
const Release = "0.1.0"
