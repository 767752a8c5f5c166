package layout

import (
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A partition of an import has its name among its marks, and notes of its batches.
var (
	KeyImport   = []byte("import")
	KeyLacks    = []byte("lacks")  // events of it could not be read when it was put back; without a value but its checksum
	BucketNotes = []byte("import") // by GroupKey: what the importer remembers with a batch
)

// EncodeImport returns the value of KeyImport.
func EncodeImport(name string) []byte { return AddSum(KeyImport, []byte(name)) }

// DecodeImport is the reverse of EncodeImport; nil is "", a partition that is of no import. It
// errs with store.ErrDamaged.
func DecodeImport(v []byte) (string, error) {
	if v == nil {
		return "", nil
	}
	b, err := CutSum(KeyImport, v)
	if err != nil || store.CheckImport(string(b)) != nil {
		return "", fmt.Errorf("%w: mark of an import of %d bytes", store.ErrDamaged, len(v))
	}
	return string(b), nil
}

// EncodeNote returns the value of a note under its batch's key.
func EncodeNote(batch uint64, note []byte) []byte {
	return AddSum(GroupKey(batch), append([]byte(nil), note...))
}

// DecodeNote is the reverse of EncodeNote: a part of v. It errs with store.ErrDamaged.
func DecodeNote(k, v []byte) ([]byte, error) {
	note, err := CutSum(k, v)
	if err != nil || len(k) != 8 {
		return nil, fmt.Errorf("%w: note of batch %.20x", store.ErrDamaged, k)
	}
	return note, nil
}
