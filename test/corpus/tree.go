package corpus

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
)

// pack writes the tree at root into a tar of its own.
func pack(to, root, prefix string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(b)
	err = AddTree(w, root, prefix)
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// AddTree writes the tree at root into w under prefix, as root's own. The
// directories above prefix are left out.
func AddTree(w *tar.Writer, root, prefix string) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return packEntry(w, p, path.Join(prefix, filepath.ToSlash(rel)), d)
	})
}

func packEntry(w *tar.Writer, from, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(from); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if d.IsDir() {
		h.Name += "/"
	}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// generate makes up a tree of the shape of a large node_modules: 50,000 files in
// 5,000 directories, most of them of a few kilobytes, text that compresses.
func generate(root string) error {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 4096)
	for i := range words {
		words[i] = fmt.Sprintf("%x", r.Uint64N(1<<(8+r.UintN(28))))
	}
	for dir := range 5000 {
		d := filepath.Join(root, fmt.Sprintf("package-%d", dir/10), fmt.Sprintf("lib-%d", dir%10))
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		for file := range 10 {
			if err := text(filepath.Join(d, fmt.Sprintf("module-%d.js", file)), r, words); err != nil {
				return err
			}
		}
	}
	return nil
}

func text(name string, r *rand.Rand, words []string) error {
	size := int(r.ExpFloat64() * 10_000)
	b := make([]byte, 0, size+64)
	for len(b) < size {
		b = append(b, "const "...)
		b = append(b, words[int(r.ExpFloat64()*400)%len(words)]...)
		b = append(b, " = "...)
		b = append(b, words[r.IntN(len(words))]...)
		b = append(b, ";\n"...)
	}
	return os.WriteFile(name, b, 0o644)
}
