package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Files are those of a store's folder, as one look at it finds them.
type Files struct {
	Dir        string
	Partitions []PartFile // by day
	Aside      []string   // set aside as damaged, relative to Dir
	Unfinished []string   // left by a process that died, relative to Dir
	Foreign    []string   // nothing of ours, relative to Dir
	Senders    bool       // there is a file of resend detection's state
	bytes      int64
}

// PartFile is a partition's file.
type PartFile struct {
	Path string
	Day  store.Day
	Size int64
}

// Bytes is the size of all of them together.
func (f *Files) Bytes() int64 { return f.bytes }

// List looks at a store's folder. Errors as Open's.
func List(dir string) (*Files, error) {
	s := &Store{opts: Options{Dir: dir, ReadOnly: true}}
	if err := s.checkMarker(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	f := &Files{Dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, sendersName+".corrupt-"):
			f.Aside = append(f.Aside, name)
		case name == sendersName:
			f.Senders = true
			f.bytes += sizeOf(e)
		}
	}
	entries, err = os.ReadDir(filepath.Join(dir, partsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		f.add(e)
	}
	slices.SortFunc(f.Partitions, func(a, b PartFile) int { return int(a.Day) - int(b.Day) })
	return f, nil
}

func (f *Files) add(e os.DirEntry) {
	name := e.Name()
	rel := filepath.Join(partsName, name)
	if strings.HasSuffix(name, suffix+".tmp") {
		f.Unfinished = append(f.Unfinished, rel)
		return
	}
	if strings.Contains(name, suffix+".corrupt-") {
		f.Aside = append(f.Aside, rel)
		return
	}
	base, ok := strings.CutSuffix(name, suffix)
	day, err := store.ParseDay(base)
	if !ok || err != nil {
		f.Foreign = append(f.Foreign, rel)
		return
	}
	size := sizeOf(e)
	f.bytes += size
	f.Partitions = append(f.Partitions, PartFile{Path: filepath.Join(f.Dir, rel), Day: day, Size: size})
}

func sizeOf(e os.DirEntry) int64 {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	return info.Size()
}
