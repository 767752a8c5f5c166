package importing

import (
	"context"
	"errors"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// Sink takes the records of logs, file after file.
type Sink interface {
	// Known returns the files that the store knows.
	Known(ctx context.Context) ([]Known, error)
	// Skip says that a file was left out whose so many records are all stored.
	Skip(ctx context.Context, records int64) error
	// File begins a file.
	File(ctx context.Context, f FileBegin) error
	// Chunk takes some lines of the file, each a record with its newline; end is how far it is read
	// with them, and at what was read of it by then, end at least. The text is the sink's from then on.
	Chunk(ctx context.Context, text []byte, end int64, at oldlogs.Content) error
	// EndFile ends the file, of which so much could be read: whole or not.
	EndFile(ctx context.Context, at oldlogs.Content, whole bool) error
	// End ends the import: all files are read. Interrupt ends it before that.
	End(ctx context.Context) (Sum, error)
	Interrupt(ctx context.Context) (Sum, error)
}

// FileBegin is a file that is begun.
type FileBegin struct {
	Node  string // of its records that name none
	From  int64  // records up to it are stored; they are sent all the same, in chunks of their own, to be told from others like them
	Known int64  // how many these are
	At    Known  // where From is of a file that was read in part: what says so
}

// Sum counts what an import did. Records is Stored and Skipped together.
type Sum struct {
	Files   int64 `json:"files"`
	Records int64 `json:"records"`
	Stored  int64 `json:"stored"`
	Skipped int64 `json:"skipped"` // the store had them
	// Claims is how many of Records say in their node= that they are another host's than the one they are stored under.
	Claims int64 `json:"claims,omitempty"`
}

// ErrUnknown is returned with a Sum that nobody has said: a connection was lost.
var ErrUnknown = errors.New("how much of it is stored is not known")

// Known is a file of which a store has all records, or those of its beginning.
type Known struct {
	// Node is the host of its records that name none.
	Node string `json:"node,omitempty"`
	// Size, Head and All are the content up to which it was read (oldlogs.Content).
	Size int64  `json:"size"`
	Head []byte `json:"head"`
	All  []byte `json:"all"`
	// End is up to where its records are stored, at most Size, and Records is how many these are.
	End     int64 `json:"end"`
	Records int64 `json:"records"`
	// Done says that it was read to its end.
	Done bool `json:"done,omitempty"`
	// Elsewhere is how many of these were stored before the import: once what has them is gone, they are not.
	Elsewhere int64 `json:"elsewhere,omitempty"`
}

// At returns k as it is once more of the file is read.
func (k Known) At(c oldlogs.Content, end int64) Known {
	k.Size, k.Head, k.All, k.End = c.Size, c.Head[:], c.All[:], end
	return k
}

// Content is what At was given; false where a hash is none.
func (k *Known) Content() (c oldlogs.Content, ok bool) {
	if len(k.Head) != len(c.Head) || len(k.All) != len(c.All) {
		return c, false
	}
	c.Size, c.Head, c.All = k.Size, oldlogs.Sum(k.Head), oldlogs.Sum(k.All)
	return c, true
}

// Done says what became of a file.
type Done struct {
	*oldlogs.Summary
	Path    string
	Whole   int64 // records of a file that was left out because the store has it; -1 of others
	From    int64 // how far it was known
	Unnamed int64 // records that name no host, and are not imported
}
