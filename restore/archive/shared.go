package archive

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Shared is what all containers have in common that are made of one checkpoint, as far as
// CRIU's images tell. They do not tell what is computed, drawn at random or cached in
// memory: that is shared, too.
type Shared struct {
	Processes []int    `json:"processes"`
	Hostname  string   `json:"hostname,omitempty"`
	Env       []string `json:"env,omitempty"` // names; values are not told
	Sockets   []Socket `json:"sockets,omitempty"`
	// Files are open and lie on what was mounted from outside: the containers write to one.
	Files []string `json:"files,omitempty"`
	// Deleted are open or mapped, and have no name any more. Each container has its own.
	Deleted []string `json:"deleted,omitempty"`
	// Timers are how many go off in each.
	Timers int `json:"timers,omitempty"`

	// Locks says that a process has locked a file, and Closed that the dump was told not to
	// keep connections (--tcp-close): CRIU wants both said again.
	Locks  bool `json:"locks,omitempty"`
	Closed bool `json:"closed,omitempty"`
}

// What a Shared shows of each list, and of a name in bytes: an image may have hundreds of
// thousands, and a result is a message.
const (
	maxShown = 100
	maxName  = 256
)

// Head is the beginning of each list.
func (s Shared) Head() *Shared {
	s.Processes = s.Processes[:min(len(s.Processes), maxShown)]
	s.Sockets = s.Sockets[:min(len(s.Sockets), maxShown)]
	s.Hostname = s.Hostname[:min(len(s.Hostname), maxName)]
	s.Env, s.Files, s.Deleted = head(s.Env), head(s.Files), head(s.Deleted)
	return &s
}

func head(all []string) (short []string) {
	for _, name := range all[:min(len(all), maxShown)] {
		short = append(short, name[:min(len(name), maxName)])
	}
	return short
}

// ReadShared reads it from a directory that [Read] filled, and [Validate] and [ReadRights]
// have passed. was is the container, as its spec tells.
func ReadShared(dir string, was *Derived) (*Shared, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s := shared{rights: rights{imageDir: imageDir{root, ImagesDir}}, files: map[uint64]regular{}}
	s.Env = was.EnvNames
	for _, read := range []func() error{s.inventory, s.processes, s.mounts, s.open, s.deleted, s.hostname, s.locks} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return &s.Shared, nil
}

type shared struct {
	rights
	Shared
	files map[uint64]regular
}

func (s *shared) inventory() error {
	inv, err := s.message(inventoryFile, magicInventory)
	s.Closed = inv.number(10) != 0
	return err
}

func (s *shared) processes() error {
	return s.messages("pstree.img", magics["pstree"], func(b []byte) error {
		f, err := parse(b)
		if err != nil {
			return err
		}
		s.Shared.Processes = append(s.Shared.Processes, int(f.word(1)))
		core, err := s.message(fmt.Sprintf("core-%d.img", f.word(1)), magics["core"])
		if err != nil {
			return err
		}
		return s.timers(core)
	})
}

// timers counts those of a process that are set: setitimer's three, and POSIX's
// (task_timers_entry in core.proto).
func (s *shared) timers(core fields) error {
	task, err := core.sub(3)
	if err != nil {
		return err
	}
	timers, err := task.sub(7)
	if err != nil {
		return err
	}
	for _, n := range []protowire.Number{1, 2, 3} {
		timer, err := timers.sub(n)
		if err != nil {
			return err
		}
		if timer.number(3) != 0 || timer.number(4) != 0 {
			s.Timers++
		}
	}
	s.Timers += len(timers[4])
	return nil
}

// open goes through what any process has open.
func (s *shared) open() error {
	return s.messages(filesFile, magics["files"], func(b []byte) error {
		f, err := parse(b)
		if err != nil {
			return err
		}
		switch f.word(1) {
		case fileTimer:
			s.Timers++
		case fileInet:
			inet, err := f.sub(4)
			if err != nil {
				return err
			}
			one, err := socket(inet)
			s.Sockets = append(s.Sockets, one)
			return err
		case fileRegular:
			return s.regular(f)
		}
		return nil
	})
}

func (s *shared) regular(f fields) error {
	file, err := regularOf(f)
	if err != nil {
		return err
	}
	s.files[f.word(2)] = file
	outside := slices.ContainsFunc(s.Mounts, func(m MountPoint) bool {
		return m.Outside() && int64(m.id) == file.mount && !strings.HasPrefix(m.Path, "/dev/")
	})
	if outside {
		s.Files = append(s.Files, file.name)
	}
	return nil
}

func (s *shared) deleted() error {
	if !s.exists(remapsFile) {
		return nil
	}
	return s.messages(remapsFile, magics["remap-fpath"], func(b []byte) error {
		f, err := parse(b)
		if file, ok := s.files[f.word(1)]; ok {
			s.Deleted = append(s.Deleted, file.name)
		}
		return err
	})
}

func (s *shared) hostname() error {
	names, err := s.named("utsns")
	for _, name := range names {
		uts, err := s.message(name, magics["utsns"])
		if err != nil {
			return err
		}
		s.Hostname = uts.text(1)
	}
	return err
}

func (s *shared) locks() error {
	if !s.exists("filelocks.img") {
		return nil
	}
	return s.messages("filelocks.img", magics["filelocks"], func([]byte) error {
		s.Locks = true
		return nil
	})
}
