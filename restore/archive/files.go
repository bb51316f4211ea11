package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// filesFile is the image of all that any process has open. CRIU before 3.0 had one for each
// kind of file instead, and reads these where this is missing.
const filesFile = "files.img"

// remapsFile tells which of these have no name any more.
const remapsFile = "remap-fpath.img"

// The fields and values of file_entry (fdinfo.proto) and reg_file_entry (regfile.proto).
const (
	fileRegular  = 1
	fileFanotify = 12
	fileTun      = 15
	fileExternal = 16
)

// barred are kinds of files that take a right to be opened which no container has.
var barred = map[uint64]string{
	fileFanotify: "a watch over a file system (fanotify)",
	fileTun:      "a network device (tun)",
	fileExternal: "a file that a plugin of CRIU is to open",
}

// regular is a file by its name.
type regular struct {
	name  string
	mount int64 // -1 if it is not known
}

// regularOf reads one from its file_entry.
func regularOf(f fields) (regular, error) {
	reg, err := f.only(3)
	file := regular{reg.text(6), -1}
	if reg.has(7) {
		file.mount = reg.zigzag(7)
	}
	return file, err
}

// files looks at what the processes have open, and notes which of it CRIU makes before they
// are in their root.
func (r *rights) files(ctx context.Context) error {
	byID := map[uint64]regular{}
	err := r.messages(filesFile, magics["files"], func(b []byte) error {
		f, err := parse(b)
		if err == nil {
			err = f.required(1, 2)
		}
		if err != nil {
			return err
		}
		if why, ok := barred[f.word(1)]; ok {
			return errors.New("a process has open " + why + ", which no container may")
		}
		if f.word(1) != fileRegular {
			return nil
		}
		file, err := regularOf(f)
		if err != nil {
			return err
		}
		if !absolute(file.name) {
			return fmt.Errorf("a process has open %q, which is no absolute path", file.name)
		}
		byID[f.word(2)] = file
		return nil
	})
	if err != nil || !r.exists(remapsFile) {
		return err
	}
	return r.messages(remapsFile, magics["remap-fpath"], func(b []byte) error {
		f, err := parse(b)
		if err != nil {
			return err
		}
		const linked, procfs = 0, 2
		if f.has(3) && (f.word(3) == linked || f.word(3) == procfs) { // which CRIU looks up in the container
			return nil
		}
		file, ok := byID[f.word(1)]
		if !ok {
			return fmt.Errorf("it is of the file %d, which no process has open", f.word(1))
		}
		return r.ghost(ctx, file)
	})
}

// ghost takes up a deleted file. Those of the container's root whoever restores has to look
// at; of the file systems that CRIU makes itself this can.
func (r *rights) ghost(ctx context.Context, f regular) error {
	on, ok := r.on(f.name, len(r.Mounts))
	switch {
	case !ok || f.mount != -1 && uint64(f.mount) != on.id:
		return fmt.Errorf("%s is deleted, and not where it says", f.name)
	case on.Path == "/":
		r.Ghosts = append(r.Ghosts, f.name)
		return nil
	case on.Outside() || on.Type != "tmpfs":
		return fmt.Errorf("%s is deleted and was open, on what was mounted from outside at %s: CRIU would make it there; close it and make the checkpoint anew", f.name, on.Path)
	}
	links, err := r.links(ctx)
	if err != nil {
		return err
	}
	for dir := path.Dir(strings.TrimPrefix(f.name, on.Path+"/")); dir != "."; dir = path.Dir(dir) {
		if links[dir] {
			return fmt.Errorf("%s is deleted and lies behind the link %s, which CRIU would follow on this machine", f.name, path.Join(on.Path, dir))
		}
	}
	return nil
}

// CheckGhosts refuses deleted files that lie behind a link in the container's root, which is
// mounted at root: CRIU would follow that on this machine.
func (r Rights) CheckGhosts(root string) error {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, ghost := range r.Ghosts {
		for at := path.Dir(ghost[1:]); at != "."; at = path.Dir(at) {
			info, err := dir.Lstat(at)
			if err == nil && info.Mode()&os.ModeSymlink != 0 {
				return refused(path.Join(ImagesDir, filesFile), "%s is deleted and lies behind the link /%s, which CRIU would follow on this machine", ghost, at)
			}
		}
	}
	return nil
}

// links are the names of links in the tars of the container's own file systems. CRIU has this
// machine's tar unpack them.
func (r *rights) links(ctx context.Context) (map[string]bool, error) {
	names, err := r.entries()
	if err != nil {
		return nil, err
	}
	links := map[string]bool{}
	for _, name := range names {
		if strings.HasPrefix(name, "tmpfs-") && strings.HasSuffix(name, ".tar.gz.img") {
			if err := r.linksOf(ctx, name, links); err != nil {
				return nil, err
			}
		}
	}
	return links, nil
}

func (r *rights) linksOf(ctx context.Context, name string, links map[string]bool) error {
	img, err := r.open(name)
	if err != nil {
		return err
	}
	defer img.Close()
	s, err := newStream(ctx, img.r, Limits{}.withDefaults())
	if err != nil {
		return err
	}
	defer s.close()
	for t := tar.NewReader(s); ; {
		hdr, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &EntryError{img.name, "it is no tar of a file system; fetch the checkpoint again", err}
		}
		if !strings.HasPrefix(hdr.Name, "./") || !absolute("/"+strings.Trim(hdr.Name[2:], "/")) {
			return refused(img.name, "it has %q, and CRIU writes names below ./ alone", hdr.Name)
		}
		if hdr.Typeflag == tar.TypeSymlink || hdr.Typeflag == tar.TypeLink {
			links[strings.Trim(hdr.Name[2:], "/")] = true // as tar takes it
		}
	}
}

// unheard are kinds of images that no checkpoint of a container has: runc and crun leave a
// container's network to others, and CRIU would set up a network of its own by the machine's
// programs, or load what the machine's kernel is to go by.
var unheard = []string{
	"apparmor", "autofs", "binfmt-misc",
	"ifaddr", "ip6tables", "iptables", "netdev", "nftables", "route", "route6", "rule",
}

// foreign refuses what concerns more than the container.
func (r *rights) foreign() error {
	for _, kind := range unheard {
		names, err := r.named(kind)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return refused(path.Join(r.dir, names[0]), "CRIU would change this machine by it, and the checkpoint of no container has it")
		}
	}
	return nil
}
