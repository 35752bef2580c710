package api

import "context"

// Service is what the handler serves: one method per call of the API. Errors
// that are an *Error keep their kind and hint on the way to the user; all
// others are KindFailed.
type Service interface {
	Status(ctx context.Context) (Status, error)
	Version(ctx context.Context) (Version, error)
	// Init, Join and Leave are long: progress is called with one line for each
	// step, from the calling goroutine.
	Init(ctx context.Context, r InitRequest, progress func(string)) (InitResult, error)
	Join(ctx context.Context, r JoinRequest, progress func(string)) (JoinResult, error)
	Leave(ctx context.Context, r LeaveRequest, progress func(string)) error
	Members(ctx context.Context) ([]Member, error)
	// Proofs are those of the tunnel to each member; with refresh they are made anew.
	Proofs(ctx context.Context, refresh bool) ([]Proof, error)

	NetworkCreate(ctx context.Context, r NetworkCreateRequest) (NetworkCreateResult, error)
	Networks(ctx context.Context) ([]Network, error)
	Network(ctx context.Context, nameOrID string) (Network, error)
	NetworkRemove(ctx context.Context, nameOrID string, force bool) error
	NetworkPrune(ctx context.Context, r PruneRequest) (PruneResult, error)
	Connect(ctx context.Context, r ConnectRequest) (Attachment, error)
	Disconnect(ctx context.Context, r DisconnectRequest) error

	Attach(ctx context.Context, r AttachRequest) (Attachment, error)
	Detach(ctx context.Context, network, nameOrID string) error
	// DetachContainer is nil when the container, its network or this host's
	// membership is gone: a runtime repeats it until it is.
	DetachContainer(ctx context.Context, c ContainerRef) error
	Endpoints(ctx context.Context, f EndpointFilter) ([]Endpoint, error)
	Endpoint(ctx context.Context, nameOrID string) (Endpoint, error)
	// EndpointHistory says who had a name or an address, of every host; at is as
	// EventQuery.Since, empty: ever.
	EndpointHistory(ctx context.Context, nameOrAddress, at string) (EndpointHistory, error)
	// Events calls each with what is selected, in order of time, from the calling
	// goroutine. An item without anything says that the call is heard.
	Events(ctx context.Context, q EventQuery, each func(EventItem) error) error

	Query(ctx context.Context, q DNSQuery) (DNSAnswer, error)
	Verify(ctx context.Context, r VerifyRequest) (Verification, error)
	Why(ctx context.Context, r WhyRequest) (Why, error)
	Ping(ctx context.Context, r PingRequest) (Ping, error)
	// Mesh are the Proofs of every member; with refresh each makes its own anew.
	Mesh(ctx context.Context, refresh bool) (Mesh, error)
	// Doctor is what Status checks, and what surrounds the agent on its host.
	Doctor(ctx context.Context) ([]Finding, error)
	// Bundle returns what who helps needs to see, as a compressed archive without
	// secrets; with all, of every member that answers.
	Bundle(ctx context.Context, all bool) ([]byte, error)
	// Test runs the connectivity suite; progress is as Init's. What it made is gone when
	// it returns.
	Test(ctx context.Context, r TestRequest, progress func(string)) (Test, error)
	// Metrics returns what Prometheus scrapes, in its text format.
	Metrics(ctx context.Context) ([]byte, error)
}
