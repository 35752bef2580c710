package nft

import (
	"context"
	"errors"
	"strings"

	"github.com/weft-net/weft/overlay"
)

// Try loads texts of nft(8) into empty namespaces and returns an error for each, nil
// for what the kernel takes. Where it takes all of them one run of the program says so.
// Without the program nothing is known, and all are nil.
func Try(ctx context.Context, texts ...string) []error {
	errs := make([]error, len(texts))
	if Installed() != nil {
		return errs
	}
	var all strings.Builder
	for i, text := range texts {
		all.WriteString(strings.Replace(text, " try ", " try"+strings.Repeat("y", i)+" ", 1) + "\n")
	}
	if loads(ctx, all.String()) == nil {
		return errs
	}
	for i, text := range texts {
		errs[i] = loads(ctx, text)
	}
	return errs
}

func loads(ctx context.Context, text string) error {
	ns, err := loaded(ctx, text)
	if err == nil {
		return ns.Close()
	}
	if errors.Is(err, overlay.ErrNoNFT) || ctx.Err() != nil {
		return nil
	}
	return err
}
