package archive

import (
	"os"
	"path"
	"path/filepath"
	"time"
)

const magicStats = 0x57093306

// Stats are what CRIU measured of a dump or a restore.
type Stats struct {
	Frozen  time.Duration // dump: how long the processes stood still
	Memory  time.Duration // dump: how long taking and writing pages took
	Written int64         // dump: pages written
	Skipped int64         // dump: pages that the dump before had
	Restore time.Duration // restore: all of it
	Forking time.Duration // restore: making the processes
	Pages   int64         // restore: pages put back
}

// ReadStats reads a file that CRIU leaves in its work directory: stats-dump or
// stats-restore.
func ReadStats(file string) (*Stats, error) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return imageDir{root, "."}.readStats(filepath.Base(file))
}

// stats are in CRIU's work directory, which may be that of the images.
func (v *validator) stats() (err error) {
	for _, dir := range []string{ImagesDir, "."} {
		if d := (imageDir{v.root, dir}); v.Dump == nil && d.exists(StatsFile) && err == nil {
			v.Dump, err = d.readStats(StatsFile)
		}
	}
	return err
}

func (d imageDir) readStats(name string) (*Stats, error) {
	all, err := d.message(name, magicStats)
	if err != nil {
		return nil, err
	}
	dump, err := all.sub(1)
	if err != nil {
		return nil, &EntryError{path.Join(d.dir, name), "it is damaged", err}
	}
	restore, err := all.sub(2)
	if err != nil {
		return nil, &EntryError{path.Join(d.dir, name), "it is damaged", err}
	}
	return &Stats{
		Frozen:  micros(dump.number(2)),
		Memory:  micros(dump.number(3)) + micros(dump.number(4)),
		Written: int64(dump.number(7)),
		Skipped: int64(dump.number(6)),
		Forking: micros(restore.number(3)),
		Restore: micros(restore.number(4)),
		Pages:   int64(restore.number(5)),
	}, nil
}

func micros(n uint64) time.Duration { return time.Duration(uint32(n)) * time.Microsecond }
