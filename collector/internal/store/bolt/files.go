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
	"github.com/auditfleet/auditfleet/collector/internal/store/manifest"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Files are those of a store's folder, as one look at it finds them.
type Files struct {
	Dir        string
	Version    int        // by the folder's marker; 0 when that is damaged
	Partitions []PartFile // by day and number
	Aside      []string   // set aside as damaged, relative to Dir
	Salvaged   []string   // set aside, and brought back from as far as could be
	Unfinished []string   // left by a process that died, relative to Dir
	Foreign    []string   // nothing of ours, relative to Dir
	Senders    bool       // there is a file of resend detection's state
	bytes      int64
}

// What stands behind a partition's name, and before a number, once it is set aside,
// and once what is readable of it was brought back.
const (
	AsideMark    = ".corrupt-"
	SalvagedMark = ".salvaged-"
)

// PartFile is a partition's file.
type PartFile struct {
	Path string
	store.Part
	Size int64
}

// Bytes is the size of all of them together.
func (f *Files) Bytes() int64 { return f.bytes }

// Stranger is the store that most partitions say they are of, when none of them is of
// the store id; zero when one is, or none says anything.
func (f *Files) Stranger(id seglog.ID) (other seglog.ID) {
	votes := map[seglog.ID]int{}
	for _, p := range f.Partitions {
		r, err := openRaw(p.Path)
		if err != nil {
			continue // said when it is verified
		}
		marks, err := r.marks()
		_ = r.Close() // only read
		switch {
		case err != nil || marks.id == (seglog.ID{}):
		case marks.id == id:
			return other
		default:
			votes[marks.id]++
		}
	}
	for x, n := range votes {
		if n > votes[other] || n == votes[other] && x.String() < other.String() {
			other = x
		}
	}
	return other
}

// List looks at a store's folder. Errors as Open's; with ErrDamaged, which is
// about the folder's marker, there are Files all the same.
func List(dir string) (*Files, error) {
	f := &Files{Dir: dir}
	var damage error
	var err error
	if f.Version, err = readMarker(dir, true); err != nil {
		err = fmt.Errorf("%s: %w", dir, err)
		if !errors.Is(err, store.ErrDamaged) {
			return nil, err
		}
		damage = err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, sendersName+AsideMark), strings.HasPrefix(name, manifest.Name+AsideMark):
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
	slices.SortFunc(f.Partitions, func(a, b PartFile) int { return a.Part.Compare(b.Part) })
	return f, damage
}

func (f *Files) add(e os.DirEntry) {
	name := e.Name()
	rel := filepath.Join(partsName, name)
	if strings.HasSuffix(name, suffix+".tmp") {
		f.Unfinished = append(f.Unfinished, rel)
		return
	}
	if strings.Contains(name, suffix+SalvagedMark) {
		f.Salvaged = append(f.Salvaged, rel)
		return
	}
	if strings.Contains(name, suffix+AsideMark) {
		f.Aside = append(f.Aside, rel)
		return
	}
	base, ok := strings.CutSuffix(name, suffix)
	part, err := store.ParsePart(base)
	if !ok || err != nil {
		f.Foreign = append(f.Foreign, rel)
		return
	}
	size := sizeOf(e)
	f.bytes += size
	f.Partitions = append(f.Partitions, PartFile{Path: filepath.Join(f.Dir, rel), Part: part, Size: size})
}

func sizeOf(e os.DirEntry) int64 {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	return info.Size()
}
