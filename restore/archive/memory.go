package archive

// Memory is a file of pages: those of its runs, one after another.
type Memory struct {
	File     string // relative to the directory
	PageSize int64
	Runs     []Run
}

// Run are pages that follow each other in a process, or in what processes share.
type Run struct {
	Addr  uint64 // of the first
	Pages int64
}

// Memories lists the files of pages in a directory that [Read] filled, each as long as its
// runs say. It checks what [Validate] does.
func Memories(dir string) ([]Memory, error) {
	var all []Memory
	err := validate(dir, func(v *validator) error {
		v.memory = func(m Memory) { all = append(all, m) }
		_, err := v.all()
		return err
	})
	return all, err
}
