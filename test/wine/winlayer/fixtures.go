package winlayer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"time"
)

// config is where a base layer has its hives.
const config = "Files/Windows/System32/config"

// hives are the names of a base layer's hives in config, and of their changes in Hives.
var hives = []struct{ file, delta string }{
	{"SYSTEM", "SYSTEM_DELTA"},
	{"SOFTWARE", "SOFTWARE_DELTA"},
	{"SAM", "SAM_DELTA"},
	{"SECURITY", "SECURITY_DELTA"},
	{"DEFAULT", "DEFAULTUSER_DELTA"},
}

// Hive is what begins like a registry hive and says name.
func Hive(name string) []byte {
	b := make([]byte, 8192)
	copy(b, "regf")
	copy(b[64:], name)
	return b
}

// Base is a layer without parents, with one of everything that hcsshim v0.15.0 imports.
func Base() []byte {
	l := New()
	base(l)
	return l.Bytes()
}

func base(l *Layer) {
	l.Dir("Files")
	l.Dir("Files/Windows")
	l.Dir("Files/Windows/System32")
	l.Dir(config)
	for _, h := range hives {
		l.File(config+"/"+h.file, Hive(h.file))
	}
	l.File("Files/Windows/System32/kernel32.dll", bytes.Repeat([]byte("MZ kernel32 "), 9000))
	l.File("Files/Windows/System32/empty.txt", nil, Attributes(Archive|ReadOnly|Hidden|System))
	l.File("Files/Windows/System32/Ünïcode 漢字 😀.txt", []byte("unicode"), EA("FOO", []byte("bar")))
	l.File("Files/License.txt", []byte("license text"), Without("MSWINDOWS.rawsd"))
	l.Link("Files/license-link.txt", "Files/License.txt")
	l.Dir("Files/Users")
	l.Dir("Files/ProgramData", Attributes(Directory|Hidden))
	l.MountPoint("Files/Documents and Settings", `C:\Users`)
	l.Symlink("Files/ProgramData/license", `..\License.txt`)
	l.Symlink("Files/Users/All Users", `C:\ProgramData`, Attributes(Directory|Reparse))
	l.Dir("UtilityVM")
	l.Dir("UtilityVM/Files")
	l.File("UtilityVM/Files/uvm.txt", []byte("of the utility VM"))
}

// Child lies on Base: it changes all hives, as a RUN on Windows does.
func Child() []byte {
	l := New()
	l.Dir("Files")
	l.Dir("Files/app")
	l.File("Files/app/app.exe", bytes.Repeat([]byte("MZ app "), 1000))
	l.Link("Files/app/kernel32-link.dll", "Files/Windows/System32/kernel32.dll")
	l.Link("Files/app/app2.exe", "Files/app/app.exe")
	l.Link("Files/app/app3.exe", "Files/app/app2.exe")
	l.Remove("Files/License.txt")
	l.Remove("Files/ProgramData")
	l.Dir("Hives")
	for _, h := range hives {
		l.File("Hives/"+h.delta, Hive(h.delta+" of the child"))
	}
	return l.Bytes()
}

// Top lies on Child: it changes one hive and a file that Child brought.
func Top() []byte {
	l := New()
	l.Dir("Files")
	l.Dir("Files/app")
	l.File("Files/app/app.exe", []byte("MZ app, patched"))
	l.Remove("Files/app/app2.exe")
	l.Dir("Hives")
	l.File("Hives/SOFTWARE_DELTA", Hive("SOFTWARE_DELTA of the top"))
	return l.Bytes()
}

// Copied lies on any: a COPY that BuildKit wrote on Linux. Its Hives is empty, its
// directories end in a slash, it has no times but that of the last write, and the
// fraction of the creation's lacks zeros, see winlayers.makeWindowsLayer of BuildKit.
func Copied() []byte {
	l := New()
	modified := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	add := func(h *tar.Header, attributes, sd string, content []byte) {
		h.ModTime = modified
		h.PAXRecords = map[string]string{
			"LIBARCHIVE.creationtime": fmt.Sprintf("%d.%d", modified.Unix(), modified.Nanosecond()),
		}
		if attributes != "" {
			h.PAXRecords["MSWINDOWS.fileattr"] = attributes
		}
		if sd != "" {
			h.PAXRecords["MSWINDOWS.rawsd"] = sd
		}
		l.write(h, content)
	}
	add(&tar.Header{Name: "Hives", Typeflag: tar.TypeDir, Mode: 1 << 14}, "16", "", nil)
	add(&tar.Header{Name: "Files", Typeflag: tar.TypeDir, Mode: 1 << 14}, "16", "", nil)
	add(&tar.Header{Name: "Files/copied/", Typeflag: tar.TypeDir, Mode: 1<<14 | 0o755}, "16", copiedDir, nil)
	add(&tar.Header{Name: "Files/copied/a.txt", Typeflag: tar.TypeReg, Mode: 1<<15 | 0o644}, "32", copiedFile, []byte("copied"))
	add(&tar.Header{Name: "Files/copied/link", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "Files/a.txt"}, "", "", nil)
	l.Remove("Files/License.txt")
	return l.Bytes()
}

// BuildKit's security descriptors.
const (
	// O:BAG:SYD:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)(A;CI;DC;;;BU)
	copiedDir = "AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgCoAAcAAAAAAxgA/wEfAAECAAAAAAAFIAAAACACAAAAAxQA/wEfAAEBAAAAAAAFEgAAAAAAGAD/AR8AAQIAAAAAAAUgAAAAIAIAAAALFAAAAAAQAQEAAAAAAAMAAAAAAAMYAKkAEgABAgAAAAAABSAAAAAhAgAAAAIYAAQAAAABAgAAAAAABSAAAAAhAgAAAAIYAAIAAAABAgAAAAAABSAAAAAhAgAA"
	// O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)
	copiedFile = "AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgBMAAMAAAAAABgA/wEfAAECAAAAAAAFIAAAACACAAAAABQA/wEfAAEBAAAAAAAFEgAAAAAAGACpABIAAQIAAAAAAAUgAAAAIQIAAA=="
)
