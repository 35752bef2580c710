package overlay

// Need is a part of the kernel that weft uses, and whether this kernel has it.
type Need struct {
	Module string // as modprobe(8) takes it; built in on many kernels
	Since  string // the first Linux that has it, such as 5.2
	For    string // what does not work without it
	Rest   bool   // the rest works without it
	Err    error  // why it is not there; nil: it is
}
