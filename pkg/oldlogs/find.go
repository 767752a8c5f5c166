package oldlogs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Config says what Find looks for.
type Config struct {
	Paths []string // files, and folders with all that is below them
	// Node is the host of records that name none, where NodeFrom does not know it either.
	Node     string
	NodeFrom Pattern
}

// File is a log. Find sets what it sees at its beginning and end; Read what follows.
type File struct {
	Path     string
	Size     int64 // on disk
	Packed   bool  // compressed
	Modified time.Time
	Node     string // the host of records that name none; "" where it is not known
	// First and Last are the times of the first and the last record that the file has, in
	// milliseconds since 1970. Last is 0 for a compressed file.
	First, Last int64
	Head        Sum    // of the beginning of the content
	Named       bool   // its first record names a host
	Same        string // the path of another log with the same content, which is read instead of this one

	// What the file itself is known by: another may get the inode of one that is gone.
	dev, ino uint64
	begin    []byte // its first bytes on disk, as they are
}

// Passed is a file that is no log, or that cannot be read.
type Passed struct {
	Path string
	Why  error
}

// Errors of files that are passed over.
var (
	ErrEmpty      = errors.New("is empty")
	ErrNoRecords  = errors.New("has no audit record")
	ErrFarRecords = fmt.Errorf("has no audit record in its first %d KiB", lookBytes>>10)
	ErrSpool      = errors.New("is a segment of a spool or journal of ours: its records are with the collector, or on their way")
	ErrNotRegular = errors.New("is no file")
	ErrLink       = errors.New("is a link: name it by itself to have it read")
)

// Set are logs, the oldest first.
type Set struct {
	Files  []*File
	Passed []Passed

	done, all atomic.Int64 // bytes on disk
}

// Find looks for logs. What is no log is in Passed of the result; a path of Config that is
// not there is an error.
func Find(ctx context.Context, cfg Config) (*Set, error) {
	if cfg.Node != "" && !goodNode(cfg.Node) {
		return nil, fmt.Errorf("%q is no name of a host", cfg.Node)
	}
	f := finder{ctx: ctx, cfg: cfg, set: &Set{}, seen: map[string]bool{}}
	for _, path := range cfg.Paths {
		if err := f.path(filepath.Clean(path)); err != nil {
			return nil, err
		}
	}
	set := f.set
	slices.SortStableFunc(set.Files, older)
	if err := set.findSame(ctx); err != nil {
		return nil, err
	}
	for _, f := range set.Files {
		if f.Same == "" {
			set.all.Add(f.Size)
		}
	}
	return set, nil
}

// older is the order in which logs are read. Of a compressed log the last record is not
// known; a log that ends in the millisecond in which another begins was written first.
func older(a, b *File) int {
	return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(cmp.Or(a.Last, a.First), cmp.Or(b.Last, b.First)),
		a.Modified.Compare(b.Modified), cmp.Compare(a.Path, b.Path))
}

type finder struct {
	ctx  context.Context
	cfg  Config
	set  *Set
	seen map[string]bool // absolute paths
}

// path takes a file, or a folder with all that is below it. A link that somebody names is
// followed; those in folders are not, for others may have put them there.
func (f *finder) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, fsys.Cause(err))
	}
	if !info.IsDir() {
		return f.file(path, 0)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		path += string(filepath.Separator) // WalkDir does not follow its root
	}
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case f.ctx.Err() != nil:
			return f.ctx.Err()
		case err != nil:
			f.pass(path, fsys.Cause(err))
			return nil
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			f.pass(path, ErrLink)
			return nil
		}
		return f.file(path, unix.O_NOFOLLOW)
	})
}

func (f *finder) pass(path string, why error) {
	f.set.Passed = append(f.set.Passed, Passed{path, why})
}

// file looks at a file. It returns only ctx's error.
func (f *finder) file(path string, flags int) error {
	if abs, err := filepath.Abs(path); err == nil {
		if f.seen[abs] {
			return nil
		}
		f.seen[abs] = true
	}
	file, err := openRegular(path, flags)
	if err != nil {
		f.pass(path, err)
		return nil
	}
	defer file.Close()
	log := &File{Path: path}
	if err := log.look(f.ctx, file); err != nil {
		if f.ctx.Err() != nil {
			return f.ctx.Err()
		}
		f.pass(path, err)
		return nil
	}
	var ok bool
	if log.Node, ok = f.cfg.NodeFrom.Node(path); !ok {
		log.Node = f.cfg.Node
	}
	f.set.Files = append(f.set.Files, log)
	return nil
}

// openRegular opens a file to be read. It does not wait for the writer of a pipe.
func openRegular(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, fsys.Cause(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// open opens a log again, also where it was renamed in its folder since, as rotating does.
func (f *File) open() (*os.File, error) {
	file, err := f.openAs(f.Path)
	if err == nil {
		return file, nil
	}
	entries, rerr := os.ReadDir(filepath.Dir(f.Path))
	if rerr != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if file, oerr := f.openAs(filepath.Join(filepath.Dir(f.Path), e.Name())); oerr == nil {
			return file, nil
		}
	}
	return nil, err
}

var errMoved = errors.New("another file has its name by now")

// openAs opens path if that is the file that was looked at.
func (f *File) openAs(path string) (*os.File, error) {
	file, err := openRegular(path, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Dev != f.dev || st.Ino != f.ino {
		file.Close()
		return nil, errors.Join(err, errMoved)
	}
	begin := make([]byte, len(f.begin))
	if n, err := file.ReadAt(begin, 0); !bytes.Equal(begin[:n], f.begin) {
		file.Close()
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, errors.Join(err, errMoved)
	}
	return file, nil
}
