// Package api is the agent's HTTP API over a unix socket: its types, the client
// that agentctl and the plugins use, and the handler that calls a Service. It
// holds no logic of the agent.
package api
