package config

import (
	"os"
	"strings"
)

// Called is what this host is called now: as it was configured, or as its machine is,
// which may be called otherwise since the configuration was read.
func (c Config) Called() string {
	if c.Name == c.Machine {
		return hostname()
	}
	return c.Name
}

// hostname is the first label of the host's name, in lower case.
func hostname() string {
	n, err := os.Hostname()
	if err != nil || n == "" {
		return "localhost"
	}
	first, _, _ := strings.Cut(strings.ToLower(n), ".")
	return first
}
