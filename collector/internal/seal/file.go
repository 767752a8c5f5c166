package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Names in the folder of the log, and what each file begins with.
const (
	// Dir is the log's folder in the store's.
	Dir = "seal"

	leavesName = "leaves"
	hashesName = "hashes"
	indexName  = "index"

	leavesMagic = "AFLEAVES"
	hashesMagic = "AFHASHES"
	indexMagic  = "AFINDEX\x00"

	fileVersion = 1
	headBytes   = 32
	recordHead  = 8  // before each leaf: its length, and the checksum
	indexBytes  = 16 // of each leaf: where it begins, and the last batch up to it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head returns the first bytes of a file.
func head(magic string, id seglog.ID) []byte {
	b := append([]byte(magic), fileVersion, 0, 0, 0)
	b = append(b, id[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readHead reads and checks a file's first bytes. Errors: ErrDamaged, ErrVersion.
func readHead(f fsys.File, magic string) (id seglog.ID, err error) {
	b := make([]byte, headBytes)
	if _, err := f.ReadAt(b, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: shorter than its head", ErrDamaged)
		}
		return id, err
	}
	switch {
	case string(b[:8]) != magic:
		return id, fmt.Errorf("%w: it begins with %q", ErrDamaged, b[:8])
	case binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli):
		return id, fmt.Errorf("%w: the checksum of its head", ErrDamaged)
	case b[8] > fileVersion:
		return id, fmt.Errorf("%w: version %d, this program reads %d", ErrVersion, b[8], fileVersion)
	}
	copy(id[:], b[12:28])
	return id, nil
}

// record returns a leaf as it lies in the file of leaves.
func record(leaf []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, recordHead+len(leaf)), uint32(len(leaf)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, leaf))
	return append(b, leaf...)
}

// readRecord reads the leaf at off of a file that has end bytes, and where it ends. A leaf of no bytes
// stands for one whose text is lost. Error: ErrDamaged.
func readRecord(f io.ReaderAt, off, end int64) (leaf []byte, next int64, err error) {
	var h [recordHead]byte
	if off < headBytes || off+recordHead > end {
		return nil, 0, fmt.Errorf("%w: no leaf at offset %d", ErrDamaged, off)
	}
	if _, err := f.ReadAt(h[:], off); err != nil {
		return nil, 0, err
	}
	n := int64(binary.LittleEndian.Uint32(h[:]))
	if n > MaxLeaf || off+recordHead+n > end {
		return nil, 0, fmt.Errorf("%w: the leaf at offset %d has %d bytes", ErrDamaged, off, n)
	}
	leaf = make([]byte, n)
	if _, err := f.ReadAt(leaf, off+recordHead); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(h[4:]) != crc32.Update(crc32.Checksum(h[:4], castagnoli), castagnoli, leaf) {
		return nil, 0, fmt.Errorf("%w: the checksum of the leaf at offset %d", ErrDamaged, off)
	}
	return leaf, off + recordHead + n, nil
}

// openFile opens one of the log's files; with write also to be appended to.
func openFile(fsy fsys.FS, path string, write bool) (fsys.File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	return fsy.OpenFile(path, flag, 0)
}

// missing reports whether an error says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
