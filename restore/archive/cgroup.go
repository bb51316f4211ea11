package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

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
