package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// file is one file of the archive.
type file struct {
	name    string
	mode    int64
	content []byte
}

// archived are the archive's files: the binary, the licences, the README, and the manual pages where the project has them.
func (r *release) archived(thirdParty []byte) ([]file, error) {
	files := []file{{"sidepass", 0o755, r.content}, {thirdPartyFile, 0o644, thirdParty}}
	for _, name := range []string{"LICENSE", "README.md"} {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, 0o644, content})
	}
	pages, err := os.ReadDir("docs/man")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, p := range pages {
		if filepath.Ext(p.Name()) != ".1" {
			continue
		}
		content, err := os.ReadFile(filepath.Join("docs/man", p.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{"man/man1/" + p.Name(), 0o644, content})
	}
	return files, nil
}

// archive writes the files into a folder of the archive's name. Their owner, time and order are no accident of this machine.
func (r *release) archive(w io.Writer, files []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: r.name + "/" + f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: r.time, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
