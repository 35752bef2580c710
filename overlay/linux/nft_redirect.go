package linux

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirect compiles "redirect to :PORT": to that port at the first address of
// the device on which the packet came.
func (c *compiler) redirect() error {
	c.next()
	to, port := c.next(), c.next()
	number, ok := strings.CutPrefix(port, ":")
	if to != "to" || !ok {
		return fmt.Errorf("redirect %s %s: want \"to :PORT\"", to, port)
	}
	value, err := ports.parse(number)
	if err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	c.emit(&expr.Immediate{Register: firstRegister, Data: value})
	// As the kernel tells it back: one port is a range of one.
	c.emit(&expr.Redir{RegisterProtoMin: firstRegister, RegisterProtoMax: firstRegister, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})
	return nil
}

// redirect says the port that was loaded before.
func (d *decompiler) redirect(*expr.Redir) {
	d.say("redirect to :" + ports.format(d.loaded))
	d.loaded = nil
}
