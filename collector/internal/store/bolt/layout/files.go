package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
)

// Names in a store's folder. FORMAT.md describes them.
const (
	LockName   = "lock"
	Partitions = "partitions" // the folder of the partitions
	Suffix     = ".db"        // of a partition
	Senders    = "senders.db" // the state of resend detection
)

// A file that is set aside as damaged gets AsideMark and a number behind its name; once
// salvage has brought back what is readable of it, SalvagedMark stands there instead.
const (
	AsideMark    = ".corrupt-"
	SalvagedMark = ".salvaged-"
)

// ReplacedMark and a number stand behind the name of a partition's file that must not be read beside those that
// compaction has made of it, or they beside it, and that is not deleted because it is not quite what it should be.
const ReplacedMark = ".replaced-"

// PartitionPath returns the path of a partition of the store in dir.
func PartitionPath(dir string, part store.Part) string {
	return filepath.Join(dir, Partitions, part.String()+Suffix)
}

// Files lists what List found in a store's folder.
type Files struct {
	Dir        string
	Version    int        // by the folder's marker; 0 when that is damaged
	Partitions []PartFile // by day and number
	Aside      []string   // set aside as damaged, relative to Dir
	Salvaged   []string   // set aside, and salvaged since; relative to Dir
	Replaced   []string   // set aside, for compaction has put their events into others; relative to Dir
	Unfinished []string   // left by a process that died, relative to Dir
	Foreign    []string   // in the folder of partitions, and not ours; relative to Dir
	Senders    bool       // there is a file of resend detection's state
	bytes      int64      // of Partitions and Senders
}

// PartFile is a partition's file.
type PartFile struct {
	Path string
	store.Part
	Size int64
}

// Bytes returns the size of the partitions and of the senders' file together.
func (f *Files) Bytes() int64 { return f.bytes }

// List lists the files in a store's folder; it opens none but the folder's marker. Errors:
// store.ErrNotOurs, ErrVersion, ErrDamaged, and those of the filesystem. With ErrDamaged,
// which is then about the marker, the Files are returned as well.
func List(dir string) (*Files, error) {
	f := &Files{Dir: dir}
	var damage error
	var err error
	if f.Version, err = ReadMarker(dir, true); err != nil {
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
		case strings.HasPrefix(name, Senders+AsideMark), strings.HasPrefix(name, manifest.Name+AsideMark):
			f.Aside = append(f.Aside, name)
		case name == Senders:
			f.Senders = true
			f.bytes += sizeOf(e)
		}
	}
	entries, err = os.ReadDir(filepath.Join(dir, Partitions))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		f.add(e)
	}
	slices.SortFunc(f.Partitions, func(a, b PartFile) int { return a.Part.Compare(b.Part) })
	return f, damage
}

// add puts a file of the folder of partitions into its list, by its name.
func (f *Files) add(e os.DirEntry) {
	name := e.Name()
	rel := filepath.Join(Partitions, name)
	if strings.HasSuffix(name, Suffix+".tmp") {
		f.Unfinished = append(f.Unfinished, rel)
		return
	}
	if strings.Contains(name, Suffix+SalvagedMark) {
		f.Salvaged = append(f.Salvaged, rel)
		return
	}
	if strings.Contains(name, Suffix+ReplacedMark) {
		f.Replaced = append(f.Replaced, rel)
		return
	}
	if strings.Contains(name, Suffix+AsideMark) {
		f.Aside = append(f.Aside, rel)
		return
	}
	base, ok := strings.CutSuffix(name, Suffix)
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
