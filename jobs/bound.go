package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Bound is implemented by args of kinds whose jobs one machine alone can run: that with
// the container, for example. Such a job is of the class of its node, and of no other.
type Bound interface {
	Args
	BoundTo() string // the node's name; "" is an error where the job is made
}

// NodeClass is the class of the jobs of a kind that are bound to a node. Names of nodes
// hold more than the parts of a class may, so a digest stands for them.
func NodeClass(kind, node string) Class {
	sum := sha256.Sum256([]byte(node))
	return Class{kind, Any, Any, "n" + hex.EncodeToString(sum[:10])}
}

// bind gives the args' job its class.
func bind(a Args, o *Options) error {
	b, ok := a.(Bound)
	if !ok {
		return nil
	}
	if b.BoundTo() == "" {
		return fmt.Errorf("%s: a node is required", a.Kind())
	}
	o.Class = NodeClass(a.Kind(), b.BoundTo())
	return nil
}
