package layout

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Marker is the name of the file that makes a folder a store's, and has its version.
const Marker = "VERSION"

const (
	markerText = "auditfleet store "
	markerSum  = "crc32c "
)

// A store has the least version that can read it: 1; 2 once a day has had several
// partitions; 3 with an ID and a manifest; 4 with hosts of version 4; 5 with a log, which a program that
// does not know it would leave behind; 6 once compaction has made a partition, or an import; 7 where another engine has the events.
const (
	// ListedVersion is the first version of a store that has an ID and a manifest.
	ListedVersion = 3
	// SealedVersion is the first version of a store that has a log of its batches.
	SealedVersion = 5
	// CompactedVersion is the first version of a store that has partitions which compaction has made.
	CompactedVersion = 6
	// ImportVersion is the first version of a store that has partitions of imports.
	ImportVersion = 6
	// ElsewhereVersion is the first version of a store whose events another engine has.
	ElsewhereVersion = 7
	// Version is the latest one.
	Version = 7
)

// BackupStore is the store's folder within a backup's.
const BackupStore = "store"

// ReadMarker reads the version of the store in dir, 0 for a folder that is new; read-only,
// a folder without a store is an ErrNotOurs. The version speaks for every file of the
// store: a file within that has the mark of a newer format is damaged. Errors:
// store.ErrNotOurs, ErrVersion, ErrDamaged, with what to do about it.
func ReadMarker(dir string, readOnly bool) (version int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, Marker))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, checkForeign(dir, readOnly)
	}
	if err != nil {
		return 0, err
	}
	line, rest, _ := strings.Cut(string(b), "\n")
	sum, summed := strings.CutPrefix(rest, markerSum)
	number, ours := strings.CutPrefix(line, markerText)
	switch {
	case summed && sum != sumOf(line), ours && rest != "" && !summed:
		return 0, fmt.Errorf("%w: %s says %.80q, and its checksum another thing: %s", store.ErrDamaged, Marker, b, putRight(dir))
	case !ours && looksOurs(dir):
		return 0, fmt.Errorf("%w: %s says %.40q: %s", store.ErrNotOurs, Marker, b, putRight(dir))
	case !ours:
		return 0, fmt.Errorf("%w: %s says %.40q", store.ErrNotOurs, Marker, b)
	}
	if version, err = strconv.Atoi(number); err != nil {
		return 0, fmt.Errorf("%w: %s says %.80q", store.ErrDamaged, Marker, b)
	}
	switch {
	case version > Version:
		return 0, fmt.Errorf("%w: version %d, this program reads %d", store.ErrVersion, version, Version)
	case version < 1:
		return 0, fmt.Errorf("%w: %s says version %d", store.ErrDamaged, Marker, version)
	}
	return version, nil
}

// putRight returns, in words, how to make the marker anew for a store that has lost it.
func putRight(dir string) string {
	version := CompactedVersion // one whose events are elsewhere is marked anew when it is opened
	if _, err := os.Lstat(filepath.Join(dir, manifest.Name)); err != nil {
		version = ListedVersion - 1
	}
	return fmt.Sprintf("if no newer collector ever wrote this store, put it right with: printf '%s%d\\n' >%s", markerText, version, filepath.Join(dir, Marker))
}

// looksOurs reports whether a store's files are in dir, whatever its marker says.
func looksOurs(dir string) bool {
	days, _ := filepath.Glob(filepath.Join(dir, Partitions, "*"+Suffix)) // the pattern is well-formed
	_, err := os.Lstat(filepath.Join(dir, Senders))
	return len(days) > 0 || err == nil
}

// sumOf returns the checksum that the marker's second line has of its first, with the
// newline.
func sumOf(line string) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), castagnoli))
}

// checkForeign decides about a folder without the marker. It is new, which is nil, when
// nothing is in it but what the collector may have put there before the marker, and what
// any folder may have. Any other one is somebody else's, or a store that has lost its
// marker: an ErrNotOurs.
func checkForeign(dir string, readOnly bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if looksOurs(dir) {
		return fmt.Errorf("%w: a store's files, but no file %s: %s", store.ErrNotOurs, Marker, putRight(dir))
	}
	if readOnly && looksOurs(filepath.Join(dir, BackupStore)) {
		return fmt.Errorf("%w: a backup: its store is %s", store.ErrNotOurs, filepath.Join(dir, BackupStore))
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == LockName, name == "journal", name == "lost+found", strings.HasSuffix(name, ".sock"):
		case !readOnly && (name == Marker+".tmp" || name == manifest.Name || name == manifest.Name+".tmp"):
		case name == Partitions && e.IsDir():
			if inside, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(inside) > 0 {
				return fmt.Errorf("%w: partitions, but no file %s", store.ErrNotOurs, Marker)
			}
		default:
			return fmt.Errorf("%w: it holds %s and no file %s: give an empty folder or a new one", store.ErrNotOurs, name, Marker)
		}
	}
	if readOnly {
		return fmt.Errorf("%w: nothing is stored there", store.ErrNotOurs)
	}
	return nil
}

// WriteMarker makes dir a store's folder of a version, durably, in place of the version
// that it had.
func WriteMarker(dir string, version int) error {
	path := filepath.Join(dir, Marker)
	line := fmt.Sprintf("%s%d", markerText, version)
	if err := fsys.Replace(path, fmt.Appendf(nil, "%s\n%s%s", line, markerSum, sumOf(line)), 0o600, true); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return fsys.OS.SyncDir(filepath.Dir(filepath.Clean(dir)))
}
