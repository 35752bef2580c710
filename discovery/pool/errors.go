package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// What can be wrong with the store. Nothing may be concluded about what is
// free, held or deleted from a call that failed with one of these.
var (
	ErrUnavailable  = discovery.ErrStoreAway                    // no answer, or no leader
	ErrPermission   = fmt.Errorf("store: %w", os.ErrPermission) // also an os.ErrPermission
	ErrNoCluster    = errors.New("store holds no cluster")      // readable and writable, without meta
	ErrOtherCluster = errors.New("store holds another cluster") // meta has another id
	ErrNotConsul    = errors.New("that is no answer of Consul's")
	ErrReadOnly     = errors.New("its disk takes no writes")    // of the built-in store; reads go on
	ErrNewerSchema  = errors.New("store is of a newer version") // read, never written
)

// What a method may find.
var (
	ErrExists    = errors.New("exists already")
	ErrNotFound  = discovery.ErrNotFound
	ErrInvalid   = strict.ErrInvalid
	ErrDeleting  = errors.New("network is being deleted")
	ErrForgotten = errors.New("host was removed from the cluster")
	ErrNameTaken = errors.New("host name is taken")
	ErrConflict  = errors.New("held by somebody else")
	ErrNotFenced = errors.New("host has not been removed")
	ErrCloned    = errors.New("another instance runs under this host's id")
)

// ExistsError is the cluster that Init and Adopt found. It wraps ErrExists.
type ExistsError struct {
	Meta  Meta
	Hosts []Host
}

func (e *ExistsError) Error() string {
	names := make([]string, len(e.Hosts))
	for i, h := range e.Hosts {
		names[i] = h.Name
	}
	return fmt.Sprintf("cluster %s exists already: hosts %s", e.Meta.ClusterID, strings.Join(names, ", "))
}

func (e *ExistsError) Unwrap() error { return ErrExists }

// NameTakenError is a host name that another host has. It wraps ErrNameTaken.
type NameTakenError struct {
	Name string
	Host Host // which has it
}

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("host name %q is taken by host %s at %s", e.Name, e.Host.ID, e.Host.Gossip)
}

func (e *NameTakenError) Unwrap() error { return ErrNameTaken }

// ForgottenError says who removed this host, and when. It wraps ErrForgotten.
type ForgottenError struct {
	By string
	At time.Time
}

func (e *ForgottenError) Error() string {
	return fmt.Sprintf("host was removed from the cluster by %s at %s", e.By, e.At.UTC().Format(time.RFC3339))
}

func (e *ForgottenError) Unwrap() error { return ErrForgotten }

// ClonedError is the other instance of a host whose disk was copied. It wraps
// ErrCloned.
type ClonedError struct{ Other Host }

func (e *ClonedError) Error() string {
	return fmt.Sprintf("another instance runs under this host's id %s at %s", e.Other.ID, e.Other.Gossip)
}

func (e *ClonedError) Unwrap() error { return ErrCloned }

// OverlapError is a subnet that cannot be had.
type OverlapError struct {
	Subnet netip.Prefix
	With   string       // "network blue" or "host web1"
	Next   netip.Prefix // free, of the same size; zero: there is none
}

func (e *OverlapError) Error() string {
	s := fmt.Sprintf("subnet %s overlaps %s", e.Subnet, e.With)
	if e.Next.IsValid() {
		s += fmt.Sprintf(", %s is free", e.Next)
	}
	return s
}

// Unwrap makes it a conflict.
func (e *OverlapError) Unwrap() error { return ErrConflict }
