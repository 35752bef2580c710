package discovery

// Runtimes are the values of Endpoint.Runtime: who made the endpoint's sandbox.
const (
	RuntimeHost       = "host"       // nobody: the endpoint is the host itself, on a network that it may reach in full
	RuntimeNetns      = "netns"      // a person, who attached a bare network namespace
	RuntimeCNI        = "cni"        // a container runtime over CNI
	RuntimeContainerd = "containerd" // containerd, over CNI
	RuntimePodman     = "podman"     // podman, over netavark or CNI
	RuntimeDocker     = "docker"     // a Docker engine
)
