package archive

import "path"

// descriptors looks at what runc left: what the process had as input, output and errors. The
// next one would be a descriptor of CRIU's own, the one that commands it: runc 1.5.2 has CRIU
// give any that is numbered here to the processes that an image names for it.
func (v *validator) descriptors(name string) error {
	full := path.Join(v.dir, name)
	var fds []string
	if err := (loader{v.root, Limits{}.withDefaults()}).json(full, &fds); err != nil {
		return err
	}
	if len(fds) > 3 {
		return refused(full, "it names %d descriptors where there are input, output and errors: the others would be CRIU's own; make the checkpoint anew", len(fds))
	}
	return nil
}
