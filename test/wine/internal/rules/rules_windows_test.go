package rules

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/Microsoft/go-winio"
	"github.com/Microsoft/hcsshim/pkg/cimfs"
	"golang.org/x/sys/windows"
)

const reparse = windows.FILE_ATTRIBUTE_REPARSE_POINT

func TestRules(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(*cimfs.CimFsWriter) error
		want error
	}{
		"plain":                {func(w *cimfs.CimFsWriter) error { return file(w, `dir\b`, 0, 0) }, nil},
		"no directory":         {func(w *cimfs.CimFsWriter) error { return file(w, `none\b`, 0, 0) }, windows.ERROR_PATH_NOT_FOUND},
		"in a file":            {func(w *cimfs.CimFsWriter) error { return file(w, `dir\a.txt\b`, 0, 0) }, windows.ERROR_DIRECTORY},
		"twice":                {func(w *cimfs.CimFsWriter) error { return file(w, `dir\a.txt`, 0, 0) }, windows.ERROR_ALREADY_EXISTS},
		"twice, upper case":    {func(w *cimfs.CimFsWriter) error { return file(w, `DIR\A.TXT`, 0, 0) }, windows.ERROR_ALREADY_EXISTS},
		"twice, Ä":             {func(w *cimfs.CimFsWriter) error { return file(w, `dir\Ä`, 0, 0) }, windows.ERROR_ALREADY_EXISTS},
		"directory twice":      {func(w *cimfs.CimFsWriter) error { return file(w, `Dir`, 0, 16) }, windows.ERROR_ALREADY_EXISTS},
		"slash":                {func(w *cimfs.CimFsWriter) error { return file(w, `dir/b`, 0, 0) }, windows.ERROR_INVALID_PARAMETER},
		"rooted":               {func(w *cimfs.CimFsWriter) error { return file(w, `\b`, 0, 0) }, windows.ERROR_INVALID_PARAMETER},
		"up":                   {func(w *cimfs.CimFsWriter) error { return file(w, `dir\..\b`, 0, 0) }, windows.ERROR_INVALID_PARAMETER},
		"no reparse data":      {func(w *cimfs.CimFsWriter) error { return file(w, `b`, 0, reparse) }, windows.ERROR_INVALID_PARAMETER},
		"link":                 {func(w *cimfs.CimFsWriter) error { return w.AddLink(`DIR\a.txt`, `b`) }, nil},
		"link to nothing":      {func(w *cimfs.CimFsWriter) error { return w.AddLink(`dir\b`, `c`) }, windows.ERROR_FILE_NOT_FOUND},
		"link to a directory":  {func(w *cimfs.CimFsWriter) error { return w.AddLink(`dir`, `c`) }, windows.ERROR_FILE_NOT_FOUND},
		"link twice":           {func(w *cimfs.CimFsWriter) error { return w.AddLink(`dir\a.txt`, `dir\A.txt`) }, windows.ERROR_ALREADY_EXISTS},
		"merge link":           {func(w *cimfs.CimFsWriter) error { return w.AddMergedLink(`elsewhere\b`, `c`) }, nil},
		"merge link twice":     {func(w *cimfs.CimFsWriter) error { return w.AddMergedLink(`elsewhere\b`, `dir\a.txt`) }, windows.ERROR_ALREADY_EXISTS},
		"tombstone":            {func(w *cimfs.CimFsWriter) error { return w.AddTombstone(`c`) }, nil},
		"tombstone of its own": {func(w *cimfs.CimFsWriter) error { return w.AddTombstone(`dir\a.txt`) }, windows.ERROR_ALREADY_EXISTS},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := block(t, tc.do)
			if !errors.Is(cause(err), tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// cause is what hcsshim v0.15.0 wraps: its errors have no Unwrap.
func cause(err error) error {
	if e, ok := errors.AsType[*cimfs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*cimfs.LinkError](err); ok {
		return e.Err
	}
	return err
}

// A file that is there is not written again.
func TestThere(t *testing.T) {
	b, err := block(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cimfs.CreateBlockCIMWithOptions(t.Context(), b); !errors.Is(err, windows.ERROR_FILE_EXISTS) {
		t.Errorf("got %v, want %v", err, windows.ERROR_FILE_EXISTS)
	}
}

func TestMergeRules(t *testing.T) {
	sealed := func() *cimfs.BlockCIM { b, _ := block(t, nil, cimfs.WithDataIntegrity()); return b }
	plain := func() *cimfs.BlockCIM { b, _ := block(t, nil); return b }
	twice := sealed()
	named := sealed()
	named.CimName = "other.cim"
	foreign := sealed()
	if err := os.WriteFile(foreign.BlockPath, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		sources []*cimfs.BlockCIM
		want    error
	}{
		"sealed":       {[]*cimfs.BlockCIM{sealed(), sealed()}, nil},
		"not sealed":   {[]*cimfs.BlockCIM{sealed(), plain()}, windows.ERROR_INVALID_DATA},
		"twice":        {[]*cimfs.BlockCIM{twice, twice}, windows.ERROR_ALREADY_EXISTS},
		"another name": {[]*cimfs.BlockCIM{sealed(), named}, windows.ERROR_FILE_NOT_FOUND},
		"no block":     {[]*cimfs.BlockCIM{sealed(), foreign}, windows.ERROR_INVALID_DATA},
		"none":         {[]*cimfs.BlockCIM{sealed(), at(t.TempDir())}, windows.ERROR_FILE_NOT_FOUND},
	} {
		t.Run(name, func(t *testing.T) {
			err := cimfs.MergeBlockCIMsWithOpts(t.Context(), at(t.TempDir()), tc.sources, cimfs.WithDataIntegrity())
			if !errors.Is(cause(err), tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// block writes one with a directory and a file, dir\a.txt, and whatever do adds.
func block(t *testing.T, do func(*cimfs.CimFsWriter) error, opts ...cimfs.BlockCIMOpt) (*cimfs.BlockCIM, error) {
	t.Helper()
	b := at(t.TempDir())
	w, err := cimfs.CreateBlockCIMWithOptions(t.Context(), b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(file(w, "dir", 0, 16), file(w, `dir\a.txt`, 0, 0), file(w, `dir\ä`, 0, 0))
	if do != nil {
		err = errors.Join(err, do(w))
	}
	return b, errors.Join(err, w.Close())
}

func file(w *cimfs.CimFsWriter, path string, size int64, attributes uint32) error {
	return w.AddFile(path, &winio.FileBasicInfo{FileAttributes: attributes}, size, nil, nil, nil)
}

func at(dir string) *cimfs.BlockCIM {
	return &cimfs.BlockCIM{Type: cimfs.BlockCIMTypeSingleFile, BlockPath: filepath.Join(dir, "layer.vhd"), CimName: "layer.cim"}
}
