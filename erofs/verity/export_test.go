package verity

// NewTreeHolding is NewTree with less memory: max bytes of each level.
func NewTreeHolding(dir string, max int) *Tree {
	return &Tree{newMerkle(Salt[:], func() *store { return &store{dir: dir, max: max} })}
}
