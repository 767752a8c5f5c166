package rewrite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Source is a partition to be rewritten, as its file has it. It is read beside the store, whose own way to the file
// is not held up: no byte of a group is ever written again, and what is mapped stays there when the file is deleted.
type Source struct {
	store.Part
	Groups []Group // by ID
	file   []byte  // mapped
}

// Group is a group of a source.
type Group struct {
	ID    uint64 // its batch, where it is of one
	Sum   group.Summary
	Bytes []byte // mapped
}

// Open maps the file of a partition that no batch goes to any more. The caller closes it. Errors: store.ErrDamaged, also
// where a group is not to be found.
func Open(path string, part store.Part) (_ *Source, err error) {
	p, err := raw.Open(path, part, false)
	if p != nil {
		defer func() { err = errors.Join(err, p.Close()) }()
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(p.CheckPart(), findings(p)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &Source{Part: part}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if s.file, err = unix.Mmap(int(f.Fd()), 0, int(p.Size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		end := g.At.Off + g.At.Size
		if !g.Listed || g.At.Size <= 0 || g.At.Off < 0 || end > int64(len(s.file)) {
			return nil, errors.Join(fmt.Errorf("%s: %w: group %d is not there as a whole", path, store.ErrDamaged, g.ID), s.Close())
		}
		s.Groups = append(s.Groups, Group{ID: g.ID, Sum: g.Sum, Bytes: s.file[g.At.Off:end:end]})
	}
	return s, nil
}

// findings returns what is damaged in a file's pages.
func findings(p *raw.Partition) error {
	if len(p.Findings) > 0 {
		return p.Findings[0].Err
	}
	if p.Incomplete {
		return fmt.Errorf("%w: a part of it cannot be read", store.ErrDamaged)
	}
	return nil
}

// letGo takes what was read of the file out of this process's memory; what is read again comes from the file. It may be called for nil.
func (s *Source) letGo() {
	if s != nil && s.file != nil {
		_ = unix.Madvise(s.file, unix.MADV_DONTNEED) // it is no more than advice
	}
}

// Close lets go of the file: nothing of it may be used after that.
func (s *Source) Close() error {
	if s.file == nil {
		return nil
	}
	err := unix.Munmap(s.file)
	s.file, s.Groups = nil, nil
	return err
}
