package classic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
)

// CIM is an open CIM: an [fs.FS], whose names are found in any case of their letters, as Windows
// does. Links are not followed. It may be used by several goroutines.
type CIM struct {
	regions []region
	size    int64 // of all regions
	fs      filesystem
	upcase  [1 << 16]uint16

	mu     sync.Mutex
	places map[fileID]place // of each directory that was come upon
	listed int64            // how long their link tables are, together

	streamed    map[fileID]bool // files with tables of streams that were read
	streamBytes int64           // how long these are, together
}

var _ interface {
	fs.StatFS
	fs.ReadDirFS
} = (*CIM)(nil)

// maxRegions is what an offset can name.
const maxRegions = 1 << 16

type region struct {
	file io.ReaderAt
	size int64
	io.Closer
}

// Open opens the CIM whose file NAME.cim is called name, and the regions beside it.
func Open(name string) (*CIM, error) {
	dir, base := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	c, err := open(os.DirFS(dir), base)
	if err != nil {
		return nil, fmt.Errorf("open CIM %s: %w", name, err)
	}
	return c, nil
}

func open(dir fs.FS, name string) (_ *CIM, err error) {
	sets, at, err := readImage(dir, name)
	if err != nil {
		return nil, err
	}
	c := &CIM{places: map[fileID]place{}, streamed: map[fileID]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for _, set := range sets {
		if err := c.openRegions(dir, set); err != nil {
			return nil, err
		}
	}
	if err := c.read(at, 0, &c.fs); err != nil {
		return nil, fmt.Errorf("file system: %w", err)
	}
	if err := c.read(c.fs.Upcase, 0, c.upcase[:]); err != nil {
		return nil, fmt.Errorf("upcase table: %w", err)
	}
	if _, err := c.section(c.fs.Tables, 0, int64(c.fs.TableCount)*tableSize); err != nil {
		return nil, fmt.Errorf("directory of file tables: %w", err)
	}
	root, err := c.file(c.fs.RootDirectory)
	if err != nil {
		return nil, fmt.Errorf("root directory: %w", err)
	}
	if !root.isDir() {
		return nil, damage("its root is no directory")
	}
	return c, c.enter(c.fs.RootDirectory, root, place{})
}

// Close closes the CIM's files.
func (c *CIM) Close() error {
	var errs []error
	for _, r := range c.regions {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// readImage reads NAME.cim: the regions, those of parents first, and where the file system is.
func readImage(dir fs.FS, name string) (sets []regionSet, at offset, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	var h imageHeader
	if err := readHeader(f, &h, &h.Common); err != nil {
		return nil, 0, err
	}
	if h.Common.Type != typeImage {
		return nil, 0, fmt.Errorf("a CIM's file of regions or object IDs, not NAME.cim: %w", errdefs.ErrInvalidArgument)
	}
	sets = make([]regionSet, h.ParentCount)
	if err := binary.Read(f, binary.LittleEndian, sets); err != nil {
		return nil, 0, damage("the regions of its %d parents: %v", h.ParentCount, err)
	}
	return append(sets, h.Regions), h.Filesystem, nil
}

// readHeader reads into v, which begins with a commonHeader.
func readHeader(r io.Reader, v any, common *commonHeader) error {
	err := binary.Read(r, binary.LittleEndian, v)
	switch short := err == io.EOF || err == io.ErrUnexpectedEOF; {
	case short, err == nil && string(common.Magic[:]) != magic:
		return fmt.Errorf("not a file of a classic CIM, and no other is read here: %w", errdefs.ErrInvalidArgument)
	case err != nil:
		return err
	case common.Major != versionMajor:
		return fmt.Errorf("CIM of version %d.%d: only version %d is known: %w", common.Major, common.Minor, versionMajor, errdefs.ErrNotImplemented)
	}
	return nil
}

func (c *CIM) openRegions(dir fs.FS, set regionSet) error {
	for i := range set.Count {
		if len(c.regions) == maxRegions {
			return damage("more than %d regions", maxRegions)
		}
		if err := c.openRegion(dir, fmt.Sprintf("region_%v_%d", set.ID, i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *CIM) openRegion(dir fs.FS, name string) (err error) {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
		}
	}()
	var h regionHeader
	if err := readHeader(f, &h, &h.Common); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("a file that cannot be read at an offset: %w", errdefs.ErrNotImplemented)
	}
	c.regions = append(c.regions, region{file: file, size: info.Size(), Closer: f})
	c.size += info.Size()
	return nil
}

// section is length bytes that are skip behind an object's beginning.
func (c *CIM) section(o offset, skip, length int64) (*io.SectionReader, error) {
	if o.byte() == 0 || o.region() >= len(c.regions) {
		return nil, damage("%v is nowhere", o)
	}
	r := c.regions[o.region()]
	if o.byte()+skip+length > r.size {
		return nil, damage("%d bytes from %d behind %v on are beyond its end", length, skip, o)
	}
	return io.NewSectionReader(r.file, o.byte()+skip, length), nil
}

// read reads what is skip behind an object's beginning into v, a pointer to what has one size.
func (c *CIM) read(o offset, skip int64, v any) error {
	r, err := c.section(o, skip, int64(binary.Size(v)))
	if err != nil {
		return err
	}
	return binary.Read(r, binary.LittleEndian, v)
}

// counted reads an object that begins with a uint16, the number of its other bytes.
func (c *CIM) counted(o offset) ([]byte, error) {
	var n uint16
	if err := c.read(o, 0, &n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	return b, c.read(o, 2, b)
}

// file reads the file of an ID.
func (c *CIM) file(id fileID) (*file, error) {
	index, at := (id-1)/filesPerTable, (id-1)%filesPerTable
	if id == 0 || index >= fileID(c.fs.TableCount) {
		return nil, damage("there is no file %d", id)
	}
	var t table
	if err := c.read(c.fs.Tables, int64(index)*tableSize, &t); err != nil {
		return nil, err
	}
	if at >= fileID(t.Count) || t.Size < minFileSize {
		return nil, damage("there is no file %d: its table has %d, of %d bytes each", id, t.Count, t.Size)
	}
	var b [fileSize]byte
	if err := c.read(t.Files, int64(at)*int64(t.Size), b[:min(fileSize, int(t.Size))]); err != nil {
		return nil, fmt.Errorf("file %d: %w", id, err)
	}
	f := new(file)
	if _, err := binary.Decode(b[:], binary.LittleEndian, f); err != nil {
		return nil, err
	}
	return f, nil
}
