// Package event is the words in which the agent says what happened: the kinds, and
// what one event holds. Whoever changes a fact emits an event into a Sink. It keeps
// nothing: package history does.
package event

import "time"

// Kind says what happened. The list is fixed: scripts and alerts rely on it.
type Kind string

// The kinds. What Subject is stands behind each.
const (
	MemberJoined Kind = "member-joined" // a host; likewise down to AgentDown
	MemberLeft   Kind = "member-left"
	MemberDead   Kind = "member-dead"
	MemberAlive  Kind = "member-alive"
	AgentDown    Kind = "agent-down"

	NetworkCreated Kind = "network-created" // a network
	NetworkRemoved Kind = "network-removed" // a network

	EndpointAttached Kind = "endpoint-attached" // an endpoint; likewise down to AddressFreed
	EndpointDetached Kind = "endpoint-detached"
	EndpointMoved    Kind = "endpoint-moved"
	AddressLeased    Kind = "address-leased"
	AddressFreed     Kind = "address-freed"
	Conflict         Kind = "conflict" // an endpoint or a host

	DriftRepaired Kind = "drift-repaired" // this host
	Quarrel       Kind = "quarrel"        // an object of the kernel, as a command

	TunnelFailing Kind = "tunnel-failing" // a host; likewise down to MTULowered
	TunnelOK      Kind = "tunnel-ok"
	MTULowered    Kind = "mtu-lowered"

	StoreAway      Kind = "store-away"      // where the store is
	StoreBack      Kind = "store-back"      // where the store is
	ConfigReloaded Kind = "config-reloaded" // this host; likewise down to AgentStopped
	AgentStarted   Kind = "agent-started"
	AgentStopped   Kind = "agent-stopped"

	TestRun    Kind = "test-run"    // the id of a run of the connectivity suite
	Forced     Kind = "forced"      // what --force was used on
	Refused    Kind = "refused"     // who sent it, or where it stands
	EventsLost Kind = "events-lost" // this host: events before this one could not be written
)

// Kinds are all of them, in the order of the list above.
func Kinds() []Kind {
	return []Kind{
		MemberJoined, MemberLeft, MemberDead, MemberAlive, AgentDown, NetworkCreated, NetworkRemoved,
		EndpointAttached, EndpointDetached, EndpointMoved, AddressLeased, AddressFreed, Conflict,
		DriftRepaired, Quarrel, TunnelFailing, TunnelOK, MTULowered, StoreAway, StoreBack,
		ConfigReloaded, AgentStarted, AgentStopped, TestRun, Forced, Refused, EventsLost,
	}
}

// Event is one thing that happened, as the host saw it that wrote it down. Empty
// fields do not apply.
type Event struct {
	At       time.Time      `json:"at"`   // UTC; the zero time: when it is emitted
	Host     string         `json:"host"` // that wrote it down; its journal fills it in
	Kind     Kind           `json:"kind"`
	Subject  string         `json:"subject,omitempty"`  // what it happened to, by name
	Network  string         `json:"network,omitempty"`  // by name
	Endpoint string         `json:"endpoint,omitempty"` // by id
	Addr     string         `json:"addr,omitempty"`     // without the length of a subnet
	By       string         `json:"by,omitempty"`       // who asked for it: a user, a runtime, else the host; its journal fills that in
	Text     string         `json:"text,omitempty"`     // one sentence for people
	Detail   map[string]any `json:"detail,omitempty"`   // by kind: commands, figures
}

// Sink takes events. It never blocks and never fails: what cannot be written down is
// counted. A nil Sink takes nothing.
type Sink func(Event)

// Emit hands an event over.
func (s Sink) Emit(e Event) {
	if s != nil {
		s(e)
	}
}
