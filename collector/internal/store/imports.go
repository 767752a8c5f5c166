package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Import says of a batch that its events come from old logs rather than from senders. They lie
// in parts of the import's own until these are compacted, so that the import can be taken back.
// The batch's events may be nil, so that only Note is kept; it has no hosts' ledgers, nor
// senders.
type Import struct {
	// Name is the import's; see CheckImport.
	Name string
	// Note is what the importer remembers with the batch: it is durable if, and only if, the
	// batch is. Some KiB at most.
	Note []byte
}

// Imported is an import whose events can be taken back.
type Imported struct {
	Name            string
	Parts           []Part
	Events, Records uint64 // stored by it
	RawBytes        uint64 // their text
	DiskBytes       uint64
	MinMs, MaxMs    int64  // of its events; 0 when there are none
	First, Last     uint64 // batches, those without events too
	Writing         bool   // an importer is at work on it
	Lacks           bool   // damage took events of it: its notes say more than is there
}

// Importer is a Store that keeps imports. Append takes batches with an Import; they go to the
// import's part, and Day is only that of a part that is begun for it.
type Importer interface {
	// Missing returns an error for each thing that answers may lack.
	Missing() []error
	// Imports lists the imports that can be taken back, by their first batch.
	Imports(ctx context.Context) ([]Imported, error)
	// ImportNotes calls fn with the notes of an import's batches that are stored, oldest first.
	// fn must not keep note. An unknown name has none.
	ImportNotes(ctx context.Context, name string, fn func(batch uint64, note []byte) error) error
	// EndImport says that no batch of the import follows for now. It may be called for an import
	// that has none.
	EndImport(ctx context.Context, name string) error
	// UndoImport drops all parts of an import. A log of what is stored has why, in words. Errors:
	// ErrNoImport, ErrInUse while batches come.
	UndoImport(ctx context.Context, name, why string) (Undone, error)
}

// Undone is an import that was taken back.
type Undone struct {
	Records uint64 // that are dropped
	Stays   uint64 // events that compaction had put into other parts before
}

var (
	// ErrNoImport is returned for an import that is not there, or that can no longer be taken
	// back.
	ErrNoImport = errors.New("no such import can be taken back")
	// ErrImportName is returned for a text that is no name of an import.
	ErrImportName = errors.New("no name of an import")
)

// maxImportName is the longest name of an import.
const maxImportName = 64

// CheckImport returns nil for a name that an import may have: 1 to 64 letters, digits, dots,
// dashes and underscores, the first a letter or digit. Else an ErrImportName.
func CheckImport(name string) error {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	if name == "" || len(name) > maxImportName || strings.ContainsFunc(name, odd) || strings.ContainsRune("._-", rune(name[0])) {
		return fmt.Errorf("%q is %w: it has 1 to %d letters, digits, dots, dashes and underscores, and begins with a letter or digit", name, ErrImportName, maxImportName)
	}
	return nil
}
