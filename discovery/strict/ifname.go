package strict

import (
	"fmt"
	"slices"
	"strings"
)

// longestIfname is IFNAMSIZ (netdevice(7)) without the byte that ends it.
const longestIfname = 15

// specialIfnames are names that mean something else where an interface's would stand:
// two directories of sysctl and a file of sysfs. Under the first two the kernel could
// not even show the settings. lo is there already in every namespace.
var specialIfnames = []string{"all", "default", "bonding_masters"}

// Ifname says what is wrong with the name of an interface. It is what the kernel takes
// (dev_valid_name), and what stands for that interface alone in rules and on command
// lines: no pattern, no quote, no option.
func Ifname(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%q is no interface name: it is empty", name)
	case len(name) > longestIfname:
		return fmt.Errorf("%q is no interface name: it has %d bytes, at most %d", name, len(name), longestIfname)
	case name == "." || name == "..":
		return fmt.Errorf("%q is no interface name: it is a directory", name)
	case slices.Contains(specialIfnames, name):
		return fmt.Errorf("%q is no interface name: the kernel has another meaning for it", name)
	case name[0] == '-':
		return fmt.Errorf("%q is no interface name: commands would take it for an option", name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`/:%*+!"'`+"`"+`\$;&|<>(){}[]?#`, r)
	}); i >= 0 {
		return fmt.Errorf("%q is no interface name: letters, digits, and . _ - @ = ~ ^ , alone", name)
	}
	return nil
}
