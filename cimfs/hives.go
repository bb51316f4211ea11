package cimfs

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Where layers of Windows have what is the machine's and not the file system's.
const (
	hivesDir   = `Hives`
	configDir  = `Files\Windows\System32\config`
	utilityVM  = `UtilityVM`
	layoutFile = "layout"
	// layout tells a container's start that the hives are in its file system.
	layout = "vhd-with-hives\n"
)

// hive is a part of the registry: what it is called in a base layer, as whole and as what
// another layer changes.
type hive struct{ name, base, delta string }

// hives are in hcsshim's order.
var hives = []hive{
	{"SYSTEM", "SYSTEM_BASE", "SYSTEM_DELTA"},
	{"SOFTWARE", "SOFTWARE_BASE", "SOFTWARE_DELTA"},
	{"SAM", "SAM_BASE", "SAM_DELTA"},
	{"SECURITY", "SECURITY_BASE", "SECURITY_DELTA"},
	{"DEFAULT", "DEFAULTUSER_BASE", "DEFAULTUSER_DELTA"},
}

// bootFiles are those of a utility VM that hcsshim treats as it treats hives.
var bootFiles = []string{
	utilityVM + `\` + configDir + `\SYSTEM`,
	utilityVM + `\` + configDir + `\SOFTWARE`,
	utilityVM + `\Files\EFI\Microsoft\Boot\BCD`,
	utilityVM + `\Files\EFI\Microsoft\Boot\bootmgfw.efi`,
}

// hiveIndex is the place of a hive among hives; -1 if there is no such.
func hiveIndex(name string) int {
	return slices.IndexFunc(hives, func(h hive) bool { return h.name == name })
}

// deltaOf is the name of the hive that a file changes; "" if none.
func deltaOf(file string) string {
	for _, h := range hives {
		if strings.EqualFold(file, hivesDir+`\`+h.delta) {
			return h.name
		}
	}
	return ""
}

// apart reports whether the writer keeps a file beside the CIM until the end: hives, which
// it merges, and the files by which a utility VM starts.
func apart(file string) bool {
	return deltaOf(file) != "" || slices.Contains(bootFiles, file) ||
		slices.ContainsFunc(hives, func(h hive) bool { return strings.EqualFold(file, configDir+`\`+h.name) })
}

// noSD is D:NO_ACCESS_CONTROL, which hcsshim writes where a file has no descriptor.
var noSD = []byte{1, 0, 4, 128, 19: 0}

// What a file has at most, in bytes: Windows counts either by 16 bits.
const (
	maxSD = 65535
	maxEA = 65535
)

// soundSD reports whether b is a self-relative SECURITY_DESCRIPTOR (MS-DTYP 2.4.6), whose parts are
// in it. What they say is not looked at.
func soundSD(b []byte) bool {
	const head, selfRelative = 20, 0x8000
	if len(b) < head || b[0] != 1 || binary.LittleEndian.Uint16(b[2:])&selfRelative == 0 {
		return false
	}
	// The owner, the group and the two lists begin with 8 bytes at least.
	for at := 4; at < head; at += 4 {
		if off := int64(binary.LittleEndian.Uint32(b[at:])); off != 0 && (off < head || off+8 > int64(len(b))) {
			return false
		}
	}
	return true
}

// Attributes of files, of winnt.h.
const (
	attributeDirectory = 0x10
	attributeNormal    = 0x80
	attributeReparse   = 0x400
)

// baseCalls are what a base layer gets besides its own files: the hives under the names that
// children merge with, and the layout.
func baseCalls() []Call {
	calls := []Call{{Op: OpFile, Path: hivesDir, Attributes: attributeDirectory, SecurityDescriptor: noSD}}
	for _, h := range hives {
		calls = append(calls, Call{Op: OpLink, Path: hivesDir + `\` + h.base, Target: configDir + `\` + h.name})
	}
	return append(calls, Call{
		Op: OpFile, Path: layoutFile, Attributes: attributeNormal, SecurityDescriptor: noSD,
		Size: int64(len(layout)), Digest: digest.FromString(layout),
	})
}

// mergedHive is what another layer gets for a hive that it changes.
func mergedHive(name string) Call {
	return Call{Op: OpFile, Path: hivesDir + `\` + hives[hiveIndex(name)].base, Attributes: attributeNormal, SecurityDescriptor: noSD, Merged: true}
}
