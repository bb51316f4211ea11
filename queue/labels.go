package queue

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Labels are what somebody has called a machine: zone=a, disk=fast.
type Labels map[string]string

// labelWord is a key or a value. Neither holds what a [Where] is written with.
var labelWord = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)

// ownLabels are those that each worker has without being told.
var ownLabels = []string{"node", "host", "os", "arch"}

// Set adds KEY=VALUE, or several with commas between them, as a file of flags and a variable
// have them.
func (l *Labels) Set(s string) error {
	for _, one := range strings.Split(s, ",") {
		if err := l.add(one); err != nil {
			return err
		}
	}
	return nil
}

func (l *Labels) add(s string) error {
	key, value, ok := strings.Cut(s, "=")
	switch {
	case !ok || !labelWord.MatchString(key) || !labelWord.MatchString(value):
		return fmt.Errorf("label %q: want KEY=VALUE, of letters, digits, dots, dashes, underscores and slashes: %w", s, errdefs.ErrInvalidArgument)
	case slices.Contains(ownLabels, key):
		return fmt.Errorf("label %q: each worker has %s by itself: %w", s, key, errdefs.ErrInvalidArgument)
	}
	if *l == nil {
		*l = Labels{}
	}
	(*l)[key] = value
	return nil
}

// String implements flag.Value.
func (l *Labels) String() string {
	if l == nil {
		return ""
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(*l)) {
		all = append(all, key+"="+(*l)[key])
	}
	return strings.Join(all, ",")
}

// label is what a worker says of its machine, and what is known of each.
func (n Node) label(key string) (value string, ok bool) {
	switch key {
	case "node":
		return n.Node, true
	case "host":
		return n.Host, true
	case "os":
		return n.OS, true
	case "arch":
		return n.Arch, true
	}
	value, ok = n.Labels[key]
	return value, ok
}

// Where chooses machines by their labels. All that it says has to be so.
type Where []is

type is struct {
	key, value string
	not        bool
}

// ParseWhere reads zone=a,disk!=slow. A machine without the label is not a, and is not slow.
func ParseWhere(s string) (w Where, err error) {
	for _, term := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(term, "=")
		i := is{key: strings.TrimSuffix(key, "!"), value: value, not: strings.HasSuffix(key, "!")}
		if !ok || !labelWord.MatchString(i.key) || !labelWord.MatchString(i.value) {
			return nil, fmt.Errorf("selector %q: want KEY=VALUE or KEY!=VALUE, and a comma between two: %w", s, errdefs.ErrInvalidArgument)
		}
		w = append(w, i)
	}
	return w, nil
}

// Of reports whether a worker is on such a machine.
func (w Where) Of(n Node) bool {
	return !slices.ContainsFunc(w, func(i is) bool {
		value, ok := n.label(i.key)
		return (ok && value == i.value) == i.not
	})
}
