package api

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
)

// callerKey is for whoever is no peer of the socket.
type callerKey struct{}

// WithCaller says who asks for what is done under ctx: a runtime, by its name. It
// counts for more than the user behind the socket, who only runs the runtime's plugin.
func WithCaller(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callerKey{}, name)
}

// Caller is who asks: a runtime, or the user at the other end of the socket, as
// "alice (uid 1000)"; empty when nobody does, and the agent works by itself.
func Caller(ctx context.Context) string {
	if name, ok := ctx.Value(callerKey{}).(string); ok {
		return name
	}
	p, ok := peerOf(ctx)
	if !ok || !p.known {
		return ""
	}
	name := "user"
	if u, err := user.LookupId(strconv.FormatUint(uint64(p.uid), 10)); err == nil {
		name = u.Username
	}
	return fmt.Sprintf("%s (uid %d)", name, p.uid)
}
