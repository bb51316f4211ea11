package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func sid(t *testing.T, known windows.WELL_KNOWN_SID_TYPE) *windows.SID {
	t.Helper()
	s, err := windows.CreateWellKnownSid(known)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is believed where it lies. Wine shows the owners of files as its own user or as
// nobody, and shows no junctions: so this is of the decision.
func TestCheckThing(t *testing.T) {
	const path = `C:\ProgramData\lithify`
	admins := sid(t, windows.WinBuiltinAdministratorsSid)
	for name, c := range map[string]struct {
		attributes uint32
		owner      *windows.SID
		want       []string // none: it is believed
	}{
		"administrators": {windows.FILE_ATTRIBUTE_DIRECTORY, admins, nil},
		"system":         {windows.FILE_ATTRIBUTE_DIRECTORY, sid(t, windows.WinLocalSystemSid), nil},
		"a file":         {windows.FILE_ATTRIBUTE_ARCHIVE, admins, nil},
		"users":          {windows.FILE_ATTRIBUTE_DIRECTORY, sid(t, windows.WinBuiltinUsersSid), []string{path, "Users", "icacls"}},
		"the account":    {windows.FILE_ATTRIBUTE_ARCHIVE, sid(t, windows.WinLocalServiceSid), []string{path, "icacls"}},
		"nobody":         {windows.FILE_ATTRIBUTE_DIRECTORY, nil, []string{path, "nobody", "icacls"}},
		"a junction":     {windows.FILE_ATTRIBUTE_DIRECTORY | windows.FILE_ATTRIBUTE_REPARSE_POINT, admins, []string{path, "junction", "remove it"}},
		"a link":         {windows.FILE_ATTRIBUTE_REPARSE_POINT, admins, []string{path, "link", "remove it"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&thing{path: path, attributes: c.attributes, owner: c.owner}).check()
			if (err == nil) != (c.want == nil) {
				t.Fatalf("error %v, want one that says %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
		})
	}
}

// TestMakeDirs makes what is not there. What is there the test of the service has, which is refused.
func TestMakeDirs(t *testing.T) {
	d := dirs(filepath.Join(t.TempDir(), "lithify"))
	if err := d.make(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{string(d), d.temp(), filepath.Dir(d.log())} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	got, err := os.ReadFile(d.config())
	if want := "version: 1\ntemp-dir: '" + d.temp() + "'\n"; err != nil || string(got) != want {
		t.Errorf("configuration %q, %v; want %q", got, err, want)
	}
}
