package jobs

import (
	"fmt"
	"strings"
)

// Any stands in a [Class] for "no wish". It is a value of its own and no
// wildcard: a worker serves "convert/any/any/any" by pulling from exactly that class.
const Any = "any"

// Class is the small enumerated label a pool of workers pulls from. Each class
// is one subject space and one consumer, and these may not overlap; so a class
// has exact values and is no expression over labels.
type Class struct {
	Kind, OS, Arch, Feature string
}

// ParseClass reads "kind/os/arch/feature"; parts left out at the end are [Any].
func ParseClass(s string) (Class, error) {
	p := strings.Split(s, "/")
	if len(p) > 4 {
		return Class{}, fmt.Errorf("class %q: want kind/os/arch/feature", s)
	}
	for len(p) < 4 {
		p = append(p, Any)
	}
	for _, t := range p {
		if !isToken(t) {
			return Class{}, fmt.Errorf("class %q: %q is not made of a-z and 0-9", s, t)
		}
	}
	return Class{p[0], p[1], p[2], p[3]}, nil
}

// String is the form ParseClass reads, with all four parts.
func (c Class) String() string {
	return strings.Join([]string{c.Kind, c.OS, c.Arch, c.Feature}, "/")
}

// MarshalText writes String; a class travels in JSON as that text.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseClass.
func (c *Class) UnmarshalText(b []byte) error {
	p, err := ParseClass(string(b))
	if err != nil {
		return err
	}
	*c = p
	return nil
}
