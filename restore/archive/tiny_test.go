package archive_test

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// tinyImages are images as CRIU would make them of one process with two pages of memory.
// They need neither CRIU nor root.
func tinyImages() []member {
	number := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	text := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	image := func(name string, magics []uint32, messages ...[]byte) member {
		var b []byte
		for _, m := range magics {
			b = binary.LittleEndian.AppendUint32(b, m)
		}
		for _, m := range messages {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
		}
		return member{name: "checkpoint/" + name, body: string(b), mode: 0o600}
	}
	common := func(own uint32) []uint32 { return []uint32{0x54564319, own} }
	pstree := number(number(number(number(number(nil, 1, 1), 2, 0), 3, 1), 4, 1), 5, 1)
	core := text(number(nil, 1, 1), 3, text(number(nil, 1, 1), 6, []byte("tiny")))
	stats := text(nil, 1, number(number(nil, 2, 1500), 7, 2))
	return []member{
		image("inventory.img", []uint32{0x58313116}, number(nil, 1, 2)),
		image("pstree.img", common(0x50273030), pstree),
		image("core-1.img", common(0x55053847), core),
		image("ids-1.img", common(0x54432030), number(nil, 1, 1)),
		image("fs-1.img", common(0x51403912), number(nil, 1, 1)),
		image("mm-1.img", common(0x57492820), number(nil, 1, 4096)),
		image("pagemap-1.img", common(0x56084025), number(nil, 1, 1), number(number(number(nil, 1, 4096), 2, 2), 4, 4)),
		{name: "checkpoint/pages-1.img", body: string(make([]byte, 2*4096)), mode: 0o600},
		image("stats-dump", []uint32{0x55105940, 0x57093306}, stats),
	}
}
