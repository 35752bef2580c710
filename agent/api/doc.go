// Package api is the agent's HTTP API over a unix socket: its types, the client
// that agentctl and the plugins use, and the handler that calls a Service. It
// holds no logic of the agent.
//
// The types of requests and answers are a contract, as openapi.yaml has it: all are
// exported, for programs that speak to an agent, and fields are only ever added.
package api
