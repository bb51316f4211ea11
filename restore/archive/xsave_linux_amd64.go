package archive

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// xsaveSize is the size of the area for what the kernel has enabled in XCR0 (Intel SDM,
// CPUID leaf 0x0D, sub-leaf 0, EBX).
func xsaveSize() uint32 {
	const leaf, osxsave = 0x0d, 1 << 27
	if highest, _, _, _ := cpuid(0, 0); highest < leaf {
		return 0
	}
	if _, _, ecx, _ := cpuid(1, 0); ecx&osxsave == 0 {
		return 0
	}
	_, size, _, _ := cpuid(leaf, 0)
	return size
}
