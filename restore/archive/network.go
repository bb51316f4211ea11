package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// externalNetwork is the name by which runc tells CRIU of a network namespace that a spec
// names by its path (libcontainer/criu_linux.go).
const externalNetwork = "extRootNetNS"

// Networked makes the directory into of CRIU's images in dir, a directory as of [Read]. Each
// file is one with the original, but for one that tells CRIU that the network namespace is given
// to it. runc's dumps do not, unless that was so then.
func Networked(dir, into string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	d := imageDir{root, ImagesDir}
	if d.exists("parent") {
		return errors.New("the checkpoint builds on a dump before it, which is not restored into another network")
	}
	id, err := d.network()
	if err != nil {
		return err
	}
	if err := os.Mkdir(into, 0o700); err != nil {
		return err
	}
	names, err := d.entries()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".img") && kindOf(name) == "netns" {
			continue
		}
		// CRIU follows a symbolic link in the container.
		if err := os.Link(filepath.Join(dir, ImagesDir, name), filepath.Join(into, name)); err != nil {
			return err
		}
	}
	entry := protowire.AppendString(protowire.AppendTag(nil, 8, protowire.BytesType), externalNetwork)
	b := binary.LittleEndian.AppendUint32(nil, magicCommon)
	b = binary.LittleEndian.AppendUint32(b, magics["netns"])
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(entry))), entry...)
	return os.WriteFile(filepath.Join(into, fmt.Sprintf("netns-%d.img", id)), b, 0o600)
}

// network is the number of the processes' network namespace.
func (d imageDir) network() (id uint64, err error) {
	err = d.messages("pstree.img", magics["pstree"], func(b []byte) error {
		f, err := parse(b)
		if err != nil || id != 0 {
			return err
		}
		name := fmt.Sprintf("ids-%d.img", f.word(1))
		if !d.exists(name) {
			return nil
		}
		ids, err := d.message(name, magics["ids"])
		id = ids.word(6)
		return err
	})
	if err == nil && id == 0 {
		err = errors.New("the images do not tell which network namespace the processes had")
	}
	return id, err
}
