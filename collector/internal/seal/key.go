package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// mostKey bounds a file with a key.
const mostKey = 64 << 10

// BesideSuffix is behind the name of a key's file where the newest checkpoint is kept beside it.
const BesideSuffix = ".last"

// InitKey makes a key of a name in a file that must not be there, for its owner alone, and returns the
// public part. Error: fs.ErrExist.
func InitKey(path, name string) (public string, err error) {
	secret, public, err := checkpoint.Generate(name)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // a part of a key
		return "", err
	}
	return public, fsys.OS.SyncDir(dir)
}

// ReadKey reads a secret key from its file, and its public part. A file that others than its owner can read is
// refused. Error: fs.ErrNotExist, checkpoint.ErrNoKey.
func ReadKey(path string) (signer note.Signer, public string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, "", fmt.Errorf("%s: others than its owner can use this key (mode %04o): take that away (chmod 600), and think about who may have read it", path, perm)
	}
	text, err := fsys.ReadRegular(path, mostKey)
	if err != nil {
		return nil, "", err
	}
	if signer, err = checkpoint.ReadSigner(string(text)); err == nil {
		public, err = checkpoint.Public(string(text))
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return signer, public, nil
}

// ReadVerifiers returns the public keys that a word says: a key itself, or a file with one or more.
func ReadVerifiers(word string) ([]note.Verifier, error) {
	text := word
	b, err := fsys.ReadRegular(word, mostKey)
	switch {
	case err == nil:
		text = string(b)
	case !errors.Is(err, fs.ErrNotExist) || !strings.Contains(word, "+"):
		return nil, err
	}
	return checkpoint.ReadVerifiers(text)
}
