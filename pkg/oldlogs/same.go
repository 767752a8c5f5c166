package oldlogs

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// Content is what a log is known by, whatever its name and compression.
type Content struct {
	Size int64 // unpacked
	Head Sum   // of its first 4 KiB
	All  Sum
}

// findSame marks files with the same content and host as one before them. Of a plain file
// and compressed ones the plain one is read. Only files that begin alike are read for
// that. The same content of two hosts stays: a host that was cloned has it.
func (s *Set) findSame(ctx context.Context) error {
	type key struct {
		node string
		head Sum
	}
	alike := map[key][]*File{}
	for _, f := range s.Files {
		k := key{f.Node, f.Head}
		alike[k] = append(alike[k], f)
	}
	for _, files := range alike {
		if err := markSame(ctx, files); err != nil {
			return err
		}
	}
	return nil
}

func markSame(ctx context.Context, files []*File) error {
	known := map[Content]*File{}
	for _, packed := range []bool{false, true} {
		for _, f := range files {
			if f.Packed != packed || !mayBeSame(f, files) {
				continue
			}
			content, err := f.content(ctx)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil: // Read says why
			case known[content] != nil:
				f.Same = known[content].Path
			default:
				known[content] = f
			}
		}
	}
	return nil
}

// mayBeSame reports whether the content of f has to be read: plain files of different
// sizes differ.
func mayBeSame(f *File, files []*File) bool {
	for _, other := range files {
		if other != f && (f.Packed || other.Packed || f.Size == other.Size) {
			return true
		}
	}
	return false
}

// Begins returns the first of several contents, the longest of which are to come first, that the file has, or begins with;
// -1 where it has none. whole says that it has nothing else. The file is read as far as it must be. A file that cannot be read has
// none.
func (f *File) Begins(ctx context.Context, with []Content) (i int, whole bool, err error) {
	longest := int64(-1)
	for _, c := range with {
		if c.Head == f.Head && c.Size > longest && (f.Packed || c.Size <= f.Size) {
			longest = c.Size
		}
	}
	if longest < 0 {
		return -1, false, nil
	}
	file, err := f.open()
	if err != nil {
		return -1, false, ctx.Err()
	}
	defer file.Close()
	src, _ := logscan.UnpackStream(file, f.Path) // what is damaged has not the content
	sum := summer{head: sha256.New(), all: sha256.New()}
	ends := map[Content]bool{}
	sizes := map[int64]bool{}
	for _, c := range with {
		sizes[c.Size] = true
	}
	buf := make([]byte, readBytes)
	for _, size := range slices.Sorted(maps.Keys(sizes)) {
		_, err := io.CopyBuffer(&sum, io.LimitReader(bounded{ctx, src}, size-sum.size), buf)
		if ctx.Err() != nil {
			return -1, false, ctx.Err()
		}
		if err != nil || sum.size < size {
			break
		}
		ends[sum.content()] = true
	}
	n, err := io.ReadFull(src, buf[:1])
	i = slices.IndexFunc(with, func(c Content) bool { return ends[c] })
	return i, i >= 0 && n == 0 && errors.Is(err, io.EOF) && with[i].Size == sum.size, nil
}

// content reads all of a file. A damaged one has none.
func (f *File) content(ctx context.Context) (c Content, err error) {
	file, err := f.open()
	if err != nil {
		return Content{}, err
	}
	src, damage := logscan.UnpackStream(file, f.Path)
	defer func() { err = errors.Join(err, damage(), file.Close()) }()
	sum := summer{head: sha256.New(), all: sha256.New()}
	_, err = io.CopyBuffer(&sum, bounded{ctx, src}, make([]byte, readBytes))
	return sum.content(), err
}

// bounded is a reader that stops with a context.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

func (e bounded) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}
