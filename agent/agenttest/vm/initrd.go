package vm

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// modules are what the machine's kernel gets before anything runs: its devices, and what
// weft and the runtimes use. Nothing loads a module by itself in the machine, whose tree
// has none.
var modules = []string{
	"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4", "autofs4",
	"bridge", "vxlan", "veth", "macvlan", "dummy", "tun", "wireguard", "sch_netem", "br_netfilter",
	"nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_fib_inet", "nft_redir", "nft_reject_inet", "nft_limit", "nft_log",
	"nft_meta_bridge", "nft_reject_bridge", "nf_conntrack_bridge", "nf_conntrack_netlink", "nft_compat",
	"ip_tables", "xt_devgroup", "xt_conntrack", "xt_comment", "xt_addrtype", "xt_mark", "xt_MASQUERADE",
}

//go:embed init.sh
var initScript string

// kernel is the unpacked package of Debian's kernel.
func kernel(t testing.TB) string {
	t.Helper()
	return agenttest.Cached(t, "kernel-debian-12")
}

// version is what uname says in the machine.
func version(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(kernel(t), "lib", "modules", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("one kernel is wanted below %s: %v %v", kernel(t), found, err)
	}
	return filepath.Base(found[0])
}

// initrd writes the initial RAM disk: busybox, the modules in their order, and the
// script that is the first process.
func (m *Machine) initrd() {
	m.t.Helper()
	root := m.path("initrd.d")
	for _, dir := range []string{"bin", "proc", "sys", "dev", "modules"} {
		m.check(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(m.t, "cp", "/bin/busybox", filepath.Join(root, "bin"))
	for _, name := range []string{"sh", "mount", "insmod", "mkdir", "poweroff", "switch_root", "cp", "ln", "ip", "hostname"} {
		m.check(os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	for i, file := range m.insmod() {
		must(m.t, "cp", file, filepath.Join(root, "modules", fmt.Sprintf("%03d.ko", i)))
	}
	addr := ""
	if m.cfg.Addr.IsValid() {
		addr = m.cfg.Addr.String()
	}
	m.check(os.WriteFile(filepath.Join(root, "machine"), fmt.Appendf(nil, "name=%s addr=%s router=%s systemd=%t disk=%t\n",
		m.cfg.Name, addr, agenttest.RouterAddr, m.cfg.Systemd, m.cfg.Disk), 0o644))
	m.check(os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755))
	must(m.t, "sh", "-c", `cd "$1" && find . | cpio --quiet -o -H newc >"$2"`, "sh", root, m.path("initrd"))
	m.check(os.RemoveAll(root))
}

// insmod are the files of the modules, each after those that it needs.
func (m *Machine) insmod() (files []string) {
	m.t.Helper()
	for _, module := range modules {
		if slices.Contains(m.cfg.Without, module) {
			continue
		}
		out := must(m.t, "modprobe", "--show-depends", "--ignore-install", "-d", kernel(m.t), "-S", version(m.t), module)
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if len(f) > 1 && f[0] == "insmod" && !slices.Contains(files, f[1]) && !slices.Contains(m.cfg.Without, strings.TrimSuffix(filepath.Base(f[1]), ".ko")) {
				files = append(files, f[1])
			}
		}
	}
	return files
}
