package api

// NotMember is the hint for a host that is in no cluster.
const NotMember = "agentctl init\nagentctl join ADDRESS --token-file FILE"

// NoNetwork is the error of every request that names an unknown network.
func NoNetwork(name string) *Error {
	return Errorf(KindNotFound, "no network %s", name).WithHint("agentctl network ls")
}
