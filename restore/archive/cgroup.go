package archive

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// controllerName are those that CRIU makes a directory of, and an option of mount.
var controllerName = regexp.MustCompile(`^(name=)?[A-Za-z0-9_.:-]*$`)

// maxNesting is deeper than control groups lie in any container.
const maxNesting = 64

// cgroups refuses paths that climb out of the group that the runtime names as the root:
// CRIU makes the groups of an image below it, by joining names (criu/cgroup.c).
func cgroups(m []byte) error {
	all, err := parse(m)
	if err != nil {
		return err
	}
	err = all.each(1, func(set fields) error { // cg_set_entry
		return set.each(2, func(member fields) error { return member.path(2) })
	})
	return errors.Join(err, all.each(2, func(controller fields) error { // cg_controller_entry
		for _, v := range controller[1] {
			if !controllerName.Match(v.bytes) {
				return fmt.Errorf("it names the controller %q", v.bytes)
			}
		}
		return controller.each(2, func(dir fields) error { return cgroupDir(dir, 0) })
	}))
}

func cgroupDir(dir fields, depth int) error {
	if depth > maxNesting {
		return errors.New("its control groups are nested too deep")
	}
	if err := dir.path(1); err != nil {
		return err
	}
	err := dir.each(3, func(property fields) error { // which CRIU writes to
		if name := property.text(1); strings.Contains(name, "/") {
			return fmt.Errorf("it names the property %q of a control group", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return dir.each(2, func(child fields) error { return cgroupDir(child, depth+1) })
}

// path looks at a name.
func (f fields) path(n protowire.Number) error {
	for _, v := range f[n] {
		if slices.Contains(strings.Split(string(v.bytes), "/"), "..") {
			return fmt.Errorf("it names the control group %q", v.bytes)
		}
	}
	return nil
}

// cgroups looks whether each process is in the first directory of its controller, or below
// (cgroup.proto). The runtime has CRIU put another in its place; a process that was
// elsewhere CRIU would put there on this machine, where devices are not limited.
func (r *rights) cgroups() error {
	if !r.exists("cgroup.img") {
		return nil
	}
	return r.messages("cgroup.img", magics["cgroup"], func(m []byte) error {
		if err := cgroups(m); err != nil {
			return err
		}
		f, err := parse(m)
		if err != nil {
			return err
		}
		top, err := tops(f)
		if err != nil {
			return err
		}
		return f.each(1, func(set fields) error {
			return set.each(2, func(member fields) error {
				controller, at := member.text(1), member.text(2)
				in, ok := top[controller]
				if !ok || at != in && !strings.HasPrefix(at, strings.TrimSuffix(in, "/")+"/") || path.Clean(at) != at {
					return fmt.Errorf("a process is in the control group %q of %q, and the container in %q", at, controller, in)
				}
				return nil
			})
		})
	})
}

// tops are the container's directories by their controllers.
func tops(f fields) (map[string]string, error) {
	top := map[string]string{}
	err := f.each(2, func(controller fields) error {
		var dirs []string
		err := controller.each(2, func(dir fields) error {
			dirs = append(dirs, path.Clean("/"+dir.text(1)))
			return nil
		})
		if err == nil && len(dirs) > 1 {
			err = fmt.Errorf("the container is in %d control groups of one controller", len(dirs))
		}
		for _, name := range controller[1] {
			if len(dirs) == 1 {
				top[string(name.bytes)] = dirs[0]
			}
		}
		return err
	})
	return top, err
}
