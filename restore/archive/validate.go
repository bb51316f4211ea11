package archive

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Images are the facts of CRIU's images that [Validate] has looked at.
type Images struct {
	Version   int    // of the images
	Arch      string // that they were made on, as Go names it
	Processes []Process
	Threads   int    // of all processes
	Pages     int64  // that are there, of 4 KiB unless the architecture has others
	Bytes     int64  // of these
	Parent    bool   // more of them are in an earlier dump
	RunID     string // of the dump, since CRIU 4.1
	Dump      *Stats // what CRIU measured, if it is there
}

// Process is one of those that were dumped, by its ID where the container's first is 1.
type Process struct {
	PID, Parent int
	Command     string
	Threads     int
}

// maxProcesses is more than a kernel has (PID_MAX_LIMIT, include/linux/threads.h).
const maxProcesses = 4 << 20

// Validate checks CRIU's images in a directory that [Read] filled: that each is what its
// name says, whole messages to its end, that each process has what CRIU needs to restore
// it, and that as many pages of memory are there as the maps of memory name. CRIU 4.1.1
// itself checks none of the last: where pages are missing it reads for ever. It does not
// look at what is in memory, and cannot.
func Validate(dir string) (*Images, error) {
	var images *Images
	err := validate(dir, func(v *validator) (err error) {
		images, err = v.all()
		return err
	})
	return images, err
}

func validate(dir string, f func(*validator) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	v := validator{imageDir: imageDir{root, ImagesDir}, pages: map[string]string{}, ids: map[uint64]bool{}}
	v.Parent = v.exists("parent")
	return f(&v)
}

type validator struct {
	imageDir
	Images
	pages map[string]string // the pagemap that has named a file of pages
	ids   map[uint64]bool   // of processes and threads

	memory func(Memory) // is told of each file of pages, if it is set
}

func (v *validator) all() (*Images, error) {
	if err := v.inventory(); err != nil {
		return nil, err
	}
	if err := v.processes(); err != nil {
		return nil, err
	}
	if err := v.files(); err != nil {
		return nil, err
	}
	if err := v.earlier(); err != nil {
		return nil, err
	}
	if err := v.stats(); err != nil {
		return nil, err
	}
	return &v.Images, nil
}

// earlier looks at the pages of the dump before, if this one builds on it.
func (v *validator) earlier() error {
	if !v.Parent {
		return nil
	}
	p := validator{imageDir: imageDir{v.root, ParentDir}, pages: map[string]string{}, memory: v.memory}
	p.Arch = v.Arch
	if err := p.files(); err != nil {
		return err
	}
	v.Pages, v.Bytes = v.Pages+p.Pages, v.Bytes+p.Bytes
	return nil
}

func (v *validator) inventory() error {
	inv, err := v.message(inventoryFile, magicInventory)
	if err != nil {
		return err
	}
	v.Version = int(inv.word(1))
	// Each version has only added to the one before; 3 is not out.
	if v.Version < 1 || v.Version > 2 {
		return refused(path.Join(v.dir, inventoryFile), "the images are of version %d, and known are 1 and 2: restore it with a later lithify", v.Version)
	}
	if id := inv[13]; len(id) > 0 && len(id[0].bytes) == 36 {
		v.RunID = string(id[0].bytes)
	}
	return nil
}

func (v *validator) processes() error {
	err := v.messages("pstree.img", magics["pstree"], func(m []byte) error {
		f, err := parse(m)
		if err == nil {
			err = f.required(1, 2, 3, 4)
		}
		if err != nil {
			return err
		}
		if len(v.Processes) == maxProcesses {
			return errors.New("there are more processes than a kernel has")
		}
		threads, err := f.words(5)
		if err != nil {
			return err
		}
		p := Process{PID: int(f.word(1)), Parent: int(f.word(2)), Threads: len(threads)}
		v.Processes, v.Threads = append(v.Processes, p), v.Threads+len(threads)
		return v.process(&v.Processes[len(v.Processes)-1], threads)
	})
	if err == nil && len(v.Processes) == 0 {
		err = refused(path.Join(v.dir, "pstree.img"), "it names no process; fetch the checkpoint again")
	}
	return err
}

// taskDead is the state of a process that has ended and was not waited for: it has
// no memory (criu/include/pstree.h).
const taskDead = 2

func (v *validator) process(p *Process, threads []uint64) error {
	core, err := v.core(uint64(p.PID))
	if err != nil {
		return err
	}
	task, err := core.sub(3)
	if err != nil {
		return err
	}
	if c := task[6]; len(c) > 0 {
		p.Command = strings.ToValidUTF8(string(c[0].bytes), "?")
	}
	if task.word(1) == taskDead {
		return nil
	}
	for _, id := range threads {
		if id == uint64(p.PID) {
			continue
		}
		if _, err := v.core(id); err != nil {
			return err
		}
	}
	id := strconv.Itoa(p.PID)
	if _, err := v.message("mm-"+id+".img", magics["mm"]); err != nil {
		return err
	}
	for _, kind := range []string{"pagemap", "ids", "fs"} {
		if name := kind + "-" + id + ".img"; !v.exists(name) {
			return refused(path.Join(v.dir, name), "the checkpoint lacks it: the dump was not finished or the archive is not whole; make the checkpoint anew")
		}
	}
	return nil
}

// arches are the values of core_entry.march.
var arches = map[uint64]string{1: "amd64", 2: "arm", 3: "arm64", 4: "ppc64le", 5: "s390x", 6: "mips64le", 7: "loong64", 8: "riscv64"}

func (v *validator) core(id uint64) (fields, error) {
	name := "core-" + strconv.FormatUint(id, 10) + ".img"
	if v.ids[id] {
		return nil, refused(path.Join(v.dir, "pstree.img"), "it names %d twice; fetch the checkpoint again", id)
	}
	v.ids[id] = true
	core, err := v.message(name, magics["core"])
	if err != nil {
		return nil, err
	}
	arch, known := arches[core.word(1)]
	switch {
	case !known:
		return nil, refused(path.Join(v.dir, name), "its architecture is number %d, which is none of CRIU 4", core.word(1))
	case v.Arch == "":
		v.Arch = arch
	case v.Arch != arch:
		return nil, refused(path.Join(v.dir, name), "it is of %s and others are of %s", arch, v.Arch)
	}
	return core, nil
}

// files looks at every file that is there.
func (v *validator) files() error {
	names, err := v.entries()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := v.check(name); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) check(name string) error {
	kind := kindOf(name)
	own, known := magics[kind]
	switch {
	case name == "descriptors.json":
		return v.descriptors(name)
	case !strings.HasSuffix(name, ".img"):
		return nil
	case name == inventoryFile, name == "pstree.img":
		return nil
	case kind == "cgroup":
		return v.messages(name, own, cgroups)
	case kind == "pagemap", kind == "pagemap-shmem":
		return v.pagemap(name)
	case known:
		return v.messages(name, own, func(m []byte) error { _, err := parse(m); return err })
	}
	// What is left is raw, has something raw in it, or is of a later CRIU.
	return nil
}

// The fields and flags of pagemap_entry. A later CRIU that compresses pages adds to them.
const (
	pagePresent   = 4
	pageInParent  = 1
	maxPagesEntry = math.MaxInt64 >> 16
)

// pagemap adds up the pages that a map of memory names, and looks how many there are.
func (v *validator) pagemap(name string) error {
	pages, want, first := "", int64(0), true
	var runs []Run
	err := v.messages(name, magicPagemap, func(m []byte) error {
		f, err := parse(m)
		if err != nil {
			return err
		}
		if first {
			first = false
			pages = fmt.Sprintf("pages-%d.img", f.word(1))
			return f.required(1)
		}
		n, err := v.pagesOf(f)
		if want += n; want > maxPagesEntry {
			err = errors.New("it names more pages than there can be")
		}
		if v.memory != nil && n > 0 {
			runs = append(runs, Run{f.number(1), n})
		}
		return err
	})
	full := path.Join(v.dir, name)
	switch {
	case err != nil:
		return err
	case first:
		return refused(full, "it is empty; fetch the checkpoint again")
	case want == 0:
		return nil // CRIU removes a file of no pages
	case v.pages[pages] != "":
		return refused(full, "its pages are in %s, as are those of %s; fetch the checkpoint again", pages, v.pages[pages])
	}
	v.pages[pages] = name
	size, err := v.pagesFile(pages, want)
	if err == nil && v.memory != nil {
		v.memory(Memory{path.Join(v.dir, pages), size, runs})
	}
	return err
}

// pagesOf is how many pages an entry has in the file of pages.
func (v *validator) pagesOf(f fields) (int64, error) {
	for n := range f {
		if n > 5 {
			return 0, fmt.Errorf("it has the field %d, so that a later CRIU made it, which compresses memory; restore it with a later lithify", n)
		}
	}
	if err := f.required(1); err != nil {
		return 0, err
	}
	n := f.number(5)
	if n == 0 {
		n = f.word(2)
	}
	if n == 0 || n > maxPagesEntry {
		return 0, fmt.Errorf("it has an entry of %d pages", n)
	}
	present, parent := f.word(4)&pagePresent != 0, f.word(4)&pageInParent != 0
	if !f.has(4) { // CRIU before 2.9
		parent = f.number(3) != 0
		present = !parent
	}
	if parent && !v.Parent {
		return 0, errors.New("it needs the pages of a dump before, which the checkpoint has not got")
	}
	if !present || parent {
		return 0, nil
	}
	return int64(n), nil
}

// pagesFile looks that a file has as many pages as are wanted, and says how large one is.
func (v *validator) pagesFile(name string, want int64) (int64, error) {
	img, err := v.open(name)
	if err != nil {
		return 0, err
	}
	defer img.Close()
	size := img.left / want
	if img.left%want != 0 || !slices.Contains(pageSizes(v.Arch), size) {
		return 0, refused(img.name, "it has %d bytes, and the maps of memory name %d pages; it is truncated or of another checkpoint, fetch the checkpoint again", img.left, want)
	}
	v.Pages, v.Bytes = v.Pages+want, v.Bytes+img.left
	return size, nil
}

// pageSizes are those that a kernel of the architecture may have.
func pageSizes(arch string) []int64 {
	switch arch {
	case "arm64", "ppc64le", "mips64le", "loong64":
		return []int64{4 << 10, 16 << 10, 64 << 10}
	}
	return []int64{4 << 10}
}
