package hold

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/jsonfile"
	"github.com/auditfleet/auditfleet/collector/internal/store"
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

// hash is that of the holds, as the log has it.
func (c *content) hash() [32]byte {
	b, err := json.Marshal(c.Holds)
	if err != nil { // of a time beyond the year 9999: no list of ours has it
		return [32]byte{1}
	}
	return sha256.Sum256(b)
}

func (c *content) held() store.Held { return store.Held{Generation: c.Generation, Hash: c.hash()} }

// words says what changes have done, for the log.
func words(done []Done) string {
	var list []string
	for i := range done {
		d := &done[i]
		list = append(list, strings.TrimSuffix(fmt.Sprintf("%s %s by %s: %s", d.Op, d.What, d.By, d.Reason), ": "))
	}
	return strings.Join(list, "; ")
}

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

// Read returns how the list of the store in dir is, and how many holds it has, whether the manifest agrees or
// not. Errors: fs.ErrNotExist, ErrDamaged, ErrVersion, and others of the filesystem.
func Read(dir string) (is store.Held, holds int, err error) {
	c, err := load(fsys.OS, dir)
	if err != nil {
		return is, 0, err
	}
	return c.held(), len(c.Holds), nil
}

// Copy copies the list of the store in dir, as it is, to the folder to, and returns how it is; zero
// where there is none. One that is damaged is copied, too, with an error that says so: it holds
// everything there as well.
func Copy(dir, to string) (is store.Held, err error) {
	c, err := load(fsys.OS, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return is, nil
	case err == nil:
		return c.held(), save(fsys.OS, to, c)
	}
	b, rerr := os.ReadFile(filepath.Join(dir, Name))
	if rerr != nil {
		return is, errors.Join(err, rerr)
	}
	return is, errors.Join(err, fsys.ReplaceOn(fsys.OS, filepath.Join(to, Name), b, 0o600))
}
