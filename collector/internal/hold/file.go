package hold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/jsonfile"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Name is the file's, in the store's folder.
const Name = "HOLDS"

// maxUnsaid bounds the changes that wait for their records.
const maxUnsaid = 2 * MaxHolds

var (
	// ErrDamaged is returned for a file whose checksum is wrong or that is no list of holds.
	ErrDamaged = errors.New("the list of holds is damaged")
	// ErrVersion is returned for a file that a newer version wrote.
	ErrVersion = errors.New("the list of holds is from a newer version")
)

// content is what the file has.
type content struct {
	Generation uint64 `json:"generation"` // one more with each change
	Holds      []Hold `json:"holds"`
	Unsaid     []Done `json:"unsaid,omitempty"` // changes whose records may not be stored
}

// kind is the file's. Its bound is of MaxHolds and maxUnsaid with the longest reasons.
var kind = jsonfile.Kind{Head: "auditfleet holds ", Version: 1, Most: 16 << 20, Damaged: ErrDamaged, Newer: ErrVersion}

func (c *content) encode() ([]byte, error) { return kind.Encode(c) }

// decode is the reverse of encode. Errors: ErrVersion, ErrDamaged.
func decode(b []byte) (*content, error) {
	c := &content{}
	if err := kind.Decode(b, c); err != nil {
		return nil, err
	}
	for _, h := range c.Holds {
		if err := Check(h.What); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return c, nil
}

// load reads the file of the store in dir. Errors: fs.ErrNotExist, ErrDamaged, ErrVersion, and others
// of the filesystem.
func load(f fsys.FS, dir string) (*content, error) {
	path := filepath.Join(dir, Name)
	b, err := kind.Read(f, path)
	if err != nil {
		return nil, err
	}
	c, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// save replaces the file, durably: after a crash it is the old one or the new one, and whole.
func save(f fsys.FS, dir string, c *content) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	return fsys.ReplaceOn(f, filepath.Join(dir, Name), b, 0o600)
}

// setAside renames a file that cannot be believed; none is no error.
func setAside(f fsys.FS, dir string, now time.Time) error {
	path := filepath.Join(dir, Name)
	err := f.Rename(path, fmt.Sprintf("%s.corrupt-%d", path, now.UnixNano()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Copy copies the list of the store in dir, as it is, to the folder to, and returns its generation;
// 0 where there is none. One that is damaged is copied, too, with an error that says so: it holds
// everything there as well.
func Copy(dir, to string) (generation uint64, err error) {
	c, err := load(fsys.OS, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err == nil:
		return c.Generation, save(fsys.OS, to, c)
	}
	b, rerr := os.ReadFile(filepath.Join(dir, Name))
	if rerr != nil {
		return 0, errors.Join(err, rerr)
	}
	return 0, errors.Join(err, fsys.ReplaceOn(fsys.OS, filepath.Join(to, Name), b, 0o600))
}
