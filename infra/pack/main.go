// Command pack writes a zip archive of the files that it is given and of nothing else, the same bytes for the same
// files. Function hosts want one, and neither zip nor a fixed order of its entries is on every machine.
//
//	pack -o OUT.zip NAME=FILE...
//
// NAME is the entry's path in the archive. Whether an entry is executable is taken from the file.
package main

import (
	"archive/zip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// modified is the time of every entry, the first that zip's own format knows.
var modified = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)

func main() {
	out := flag.String("o", "", "archive to write")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// run writes the archive beside its place and moves it there, so that none is ever half written.
func run(out string, args []string) error {
	if out == "" || len(args) == 0 {
		return errors.New("it takes -o OUT.zip and one or more NAME=FILE")
	}
	entries, err := parse(args)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := errors.Join(write(f, entries), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	return os.Rename(f.Name(), out)
}

// entry is one file of the archive.
type entry struct{ name, file string }

// parse reads NAME=FILE arguments, and returns them in the order of their names.
func parse(args []string) ([]entry, error) {
	entries := make([]entry, 0, len(args))
	for _, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		if !ok || file == "" || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%q is no NAME=FILE with a relative NAME", arg)
		}
		entries = append(entries, entry{filepath.ToSlash(name), file})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(entries); i++ {
		if entries[i].name == entries[i-1].name {
			return nil, fmt.Errorf("%s is given twice", entries[i].name)
		}
	}
	return entries, nil
}

func write(w io.Writer, entries []entry) error {
	archive := zip.NewWriter(w)
	for _, e := range entries {
		if err := add(archive, e); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return archive.Close()
}

func add(archive *zip.Writer, e entry) error {
	f, err := os.Open(e.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", e.file)
	}
	header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: modified}
	header.SetMode(0o644 | info.Mode()&0o111)
	to, err := archive.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, f)
	return err
}
