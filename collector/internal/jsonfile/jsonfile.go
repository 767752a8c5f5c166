// Package jsonfile has the form of the store's small files that people may read: a line with the
// kind and version of the file, a JSON object, and a line with the CRC-32C of all before it. The
// manifest and the list of holds are such files.
package jsonfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Kind is one kind of such files.
type Kind struct {
	Head    string // what the first line begins with, before the version
	Version int
	Most    int64 // bytes that a file may have
	// Damaged and Newer are wrapped by the errors of Decode and Load.
	Damaged, Newer error
}

const sum = "crc32c "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the bytes of a file with content.
func (k *Kind) Encode(content any) ([]byte, error) {
	body, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(nil, "%s%d\n%s\n", k.Head, k.Version, body)
	return fmt.Appendf(b, "%s%08x\n", sum, crc32.Checksum(b, castagnoli)), nil
}

// Decode is the reverse of Encode: it fills in content, a pointer. Checksum and version are looked
// at before the JSON is. Errors: Damaged, Newer.
func (k *Kind) Decode(b []byte, content any) error {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	number, ours := strings.CutPrefix(string(line), k.Head)
	v, err := strconv.Atoi(number)
	if !ours || err != nil || v < 1 {
		return fmt.Errorf("%w: it begins with %.40q", k.Damaged, line)
	}
	at := bytes.LastIndex(b, []byte("\n"+sum)) + 1
	switch {
	case at <= len(line) || string(b[at:]) != fmt.Sprintf("%s%08x\n", sum, crc32.Checksum(b[:at], castagnoli)):
		return fmt.Errorf("%w: its checksum is wrong", k.Damaged)
	case v > k.Version:
		return fmt.Errorf("%w: version %d, this program reads %d", k.Newer, v, k.Version)
	}
	if err := json.Unmarshal(rest[:at-len(line)-1], content); err != nil {
		return fmt.Errorf("%w: %w", k.Damaged, err)
	}
	return nil
}

// Read returns the bytes of the file at path. Errors: fs.ErrNotExist, Damaged for one that is too
// long or changes meanwhile, and others of the filesystem.
func (k *Kind) Read(f fsys.FS, path string) ([]byte, error) {
	file, err := f.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > k.Most {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, k.Damaged, size)
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) || n < len(b) {
		return nil, errors.Join(fmt.Errorf("%s: %w: %d of %d bytes", path, k.Damaged, n, size), err)
	}
	return b, nil
}
