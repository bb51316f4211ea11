package main

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/cimfs/classic"
	"github.com/spf13/cobra"
)

func (a *app) cimLsCommand() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use:   "ls CIM [PATH]",
		Short: "List a directory of a classic CIM",
		Long: `List what a directory of a classic CIM holds, or what PATH is if it is a file, with the
attributes as PowerShell writes them: d directory, a archive, r read-only, h hidden, s system,
l reparse point. Names are found in any case of their letters. With --output json also security
descriptors, extended attributes, reparse data and alternate streams.`,
		Example: `  lithify cim ls 'C:\layers\17.cim' Files/Windows
  lithify cim ls -R -o json 17.cim`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{fmt.Errorf("want %q, see %q", cmd.UseLine(), cmd.CommandPath()+" --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 2 {
				dir = cimPath(args[1])
			}
			return withCIM(args[0], func(c *classic.CIM) error {
				list, err := listCIM(c, dir, recursive)
				if err != nil {
					return err
				}
				return a.printCIM(list)
			})
		},
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list the directories below, too")
	return cmd
}

// cimEntry is a file of a CIM.
type cimEntry struct {
	Path               string           `json:"path"`
	Size               int64            `json:"size"`
	FileID             uint32           `json:"fileId"`     // hard links share it
	Attributes         uint32           `json:"attributes"` // FILE_ATTRIBUTE_*
	CreationTime       string           `json:"creationTime,omitempty"`
	LastWriteTime      string           `json:"lastWriteTime,omitempty"`
	ChangeTime         string           `json:"changeTime,omitempty"`
	LastAccessTime     string           `json:"lastAccessTime,omitempty"`
	SecurityDescriptor []byte           `json:"securityDescriptor,omitempty"`
	ExtendedAttributes []byte           `json:"extendedAttributes,omitempty"`
	ReparseTag         uint32           `json:"reparseTag,omitempty"`
	Reparse            []byte           `json:"reparse,omitempty"`
	Streams            []classic.Stream `json:"streams,omitempty"`
}

// listCIM lists what is in a directory, or the file itself.
func listCIM(c *classic.CIM, dir string, recursive bool) ([]cimEntry, error) {
	list := []cimEntry{}
	err := fs.WalkDir(c, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == dir && d.IsDir() {
			return nil
		}
		entry, err := entryOf(name, d)
		if err != nil {
			return err
		}
		list = append(list, entry)
		if d.IsDir() && !recursive {
			return fs.SkipDir
		}
		return nil
	})
	return list, err
}

func entryOf(name string, d fs.DirEntry) (cimEntry, error) {
	info, err := d.Info()
	if err != nil {
		return cimEntry{}, fmt.Errorf("%s: %w", name, err)
	}
	m := info.Sys().(*classic.Metadata)
	return cimEntry{
		Path:               name,
		Size:               info.Size(),
		FileID:             m.FileID,
		Attributes:         m.Attributes,
		CreationTime:       cimTime(m.CreationTime),
		LastWriteTime:      cimTime(m.LastWriteTime),
		ChangeTime:         cimTime(m.ChangeTime),
		LastAccessTime:     cimTime(m.LastAccessTime),
		SecurityDescriptor: m.SecurityDescriptor,
		ExtendedAttributes: m.ExtendedAttributes,
		ReparseTag:         m.ReparseTag,
		Reparse:            m.Reparse,
		Streams:            m.Streams,
	}, nil
}

// cimTime is a time that may be far away: a CIM can have one of the year 60056, of which
// package json makes an error.
func cimTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (a *app) printCIM(list []cimEntry) error {
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, e := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", attributeLetters(e.Attributes), e.Size, e.LastWriteTime, printable(e.Path))
	}
	return w.Flush()
}

// attributeLetters are attributes as PowerShell has them.
func attributeLetters(attributes uint32) string {
	b := []byte("------")
	for i, l := range []struct {
		attribute uint32
		letter    byte
	}{
		{classic.AttributeDirectory, 'd'},
		{classic.AttributeArchive, 'a'},
		{classic.AttributeReadOnly, 'r'},
		{classic.AttributeHidden, 'h'},
		{classic.AttributeSystem, 's'},
		{classic.AttributeReparsePoint, 'l'},
	} {
		if attributes&l.attribute != 0 {
			b[i] = l.letter
		}
	}
	return string(b)
}

// printable is a name that does nothing to a terminal.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}
