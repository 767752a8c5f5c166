package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// partial goes behind the name of a folder while a bundle is put into it.
const partial = ".partial"

// Folder puts a bundle's files into a new folder: under another name until all of it is there and on stable
// storage.
type Folder struct {
	dir, tmp string
	files    map[string]*os.File
}

// NewFolder begins a bundle that will be dir. A dir that is there is refused.
func NewFolder(dir string) (*Folder, error) {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s is there already: give a folder that is not, bundles are never overwritten", dir)
	}
	tmp := dir + partial
	if err := os.Mkdir(tmp, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s is there: half a bundle, of a run that was ended or goes on; remove it if no other one runs", tmp)
		}
		return nil, err
	}
	return &Folder{dir: dir, tmp: tmp, files: map[string]*os.File{}}, nil
}

// Take writes a piece of a file, behind those before.
func (f *Folder) Take(name string, piece []byte) error {
	if name != Manifest && !slices.Contains(files(Format), name) {
		return fmt.Errorf("the collector sends a file %.80q, which is none of a bundle", name)
	}
	file := f.files[name]
	if file == nil {
		var err error
		if file, err = os.OpenFile(filepath.Join(f.tmp, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600); err != nil {
			return err
		}
		f.files[name] = file
	}
	_, err := file.Write(piece)
	return err
}

// Finish makes the bundle durable and gives it its name.
func (f *Folder) Finish() error {
	if f.files[Manifest] == nil {
		return errors.Join(errors.New("the collector has sent no manifest"), f.Discard())
	}
	for _, name := range files(Format) { // a file without a byte, too
		if f.files[name] == nil && name != Checkpoint {
			if err := f.Take(name, nil); err != nil {
				return errors.Join(err, f.Discard())
			}
		}
	}
	var err error
	for name, file := range f.files {
		err = errors.Join(err, file.Sync(), file.Close())
		delete(f.files, name)
	}
	if err = errors.Join(err, fsys.OS.SyncDir(f.tmp)); err != nil {
		return errors.Join(err, f.Discard())
	}
	rename := unix.Renameat2(unix.AT_FDCWD, f.tmp, unix.AT_FDCWD, f.dir, unix.RENAME_NOREPLACE)
	if errors.Is(rename, unix.EINVAL) || errors.Is(rename, unix.ENOSYS) { // os.Rename replaces an empty folder at worst
		rename = os.Rename(f.tmp, f.dir)
	}
	if rename != nil {
		return errors.Join(fmt.Errorf("name the bundle %s: %w", f.dir, rename), f.Discard())
	}
	return fsys.OS.SyncDir(filepath.Dir(f.dir))
}

// Discard removes what was written. It may be called again.
func (f *Folder) Discard() error {
	for name, file := range f.files {
		_ = file.Close()
		delete(f.files, name)
	}
	return os.RemoveAll(f.tmp)
}
