package cni

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/agent/api"
)

// codes of the CNI for the kinds of the agent's errors; a kind that is not in it
// is ErrInternal.
var codes = map[api.Kind]uint{
	api.KindMisuse:      types.ErrInvalidNetworkConfig,
	api.KindNotFound:    types.ErrInvalidNetworkConfig, // the network: the namespace was looked at before
	api.KindUnreachable: types.ErrTryAgainLater,
	api.KindTimeout:     types.ErrTryAgainLater,
	api.KindPermission:  types.ErrIOFailure,
}

// cniError turns an error of the agent into the CNI's, with the next command to
// type as its details.
func cniError(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return types.NewError(types.ErrInternal, err.Error(), "")
	}
	code, ok := codes[e.Kind]
	if !ok {
		code = types.ErrInternal
	}
	return types.NewError(code, e.Message, e.Hint)
}
