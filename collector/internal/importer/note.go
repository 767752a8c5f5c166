package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// Sum counts what an import did. Records is Stored and Skipped together.
type Sum struct {
	Files   int64 `json:"files"`
	Records int64 `json:"records"`
	Stored  int64 `json:"stored"`
	Skipped int64 `json:"skipped"` // the store had them
}

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

// at returns k as it is once more of the file is read.
func (k Known) at(c oldlogs.Content, end int64) Known {
	k.Size, k.Head, k.All, k.End = c.Size, c.Head[:], c.All[:], end
	return k
}

// content is what at was given; false where a hash is none.
func (k *Known) content() (c oldlogs.Content, ok bool) {
	if len(k.Head) != len(c.Head) || len(k.All) != len(c.All) {
		return c, false
	}
	c.Size, c.Head, c.All = k.Size, oldlogs.Sum(k.Head), oldlogs.Sum(k.All)
	return c, true
}

// note is what is remembered with a batch.
type note struct {
	// Files are those that are new to the notes: whose records are all in this batch or earlier ones of the import, and none is
	// of another one, or of a sender: such a file is compared again, for what has its records may be gone by then.
	Files []Known `json:"files,omitempty"`
	// Begun are those that are being read: their records up to End are in this batch or earlier ones, or in Open.
	Begun []Known `json:"begun,omitempty"`
	Open  []open  `json:"open,omitempty"`
	// Read is how many files were read to their ends, those of Files or not.
	Read  int64  `json:"read,omitempty"`
	Sum   Sum    `json:"sum"` // since the session began
	At    int64  `json:"at"`  // ms since 1970
	Ended bool   `json:"ended,omitempty"`
	By    string `json:"by,omitempty"`
}

// open is a record of an event that is not complete yet.
type open struct {
	Host string `json:"host"`
	Raw  []byte `json:"raw"`
}

func (n *note) encode() ([]byte, error) { return json.Marshal(n) }

// errNote is returned for bytes that are no note.
var errNote = errors.New("no note of an import")

func decodeNote(b []byte) (*note, error) {
	n := &note{}
	if err := json.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("%w: %w", errNote, err)
	}
	return n, nil
}

// memory is what the notes of all imports say of files that were read, and those of the import that goes on of files that
// were begun.
type memory struct {
	done  []Known
	begun map[contentKey]begun // by what the file is, the furthest
	// unfinished says that the last session of the import that goes on did not come to its end.
	unfinished bool
}

type contentKey struct {
	node string
	oldlogs.Content
}

// begun is a file that was read in part, and the open records of the batch that says so.
type begun struct {
	Known
	open []open
}

// recall reads the notes of all imports that the store has, to go on with one.
func recall(ctx context.Context, s store.Importer, name string) (*memory, error) {
	list, err := s.Imports(ctx)
	if err != nil {
		return nil, err
	}
	m := &memory{begun: map[contentKey]begun{}}
	for _, x := range list {
		var last *note
		err := s.ImportNotes(ctx, x.Name, func(_ uint64, b []byte) error {
			n, err := decodeNote(b)
			if err != nil {
				return nil //nolint:nilerr // of a later version, or damaged: records are compared all the same
			}
			m.done = append(m.done, n.Files...)
			last = n
			return nil
		})
		if err != nil {
			return nil, err
		}
		if last == nil || x.Name != name {
			continue
		}
		m.unfinished = !last.Ended
		for _, k := range last.Begun {
			c, ok := k.content()
			if !ok {
				continue
			}
			if key := (contentKey{k.Node, c}); m.begun[key].End <= k.End {
				m.begun[key] = begun{k, last.Open}
			}
		}
	}
	return m, nil
}

// Summary is an import as it is listed.
type Summary struct {
	store.Imported
	Files int64 // that were read to their ends
	Ended bool  // the last session came to its end
	At    int64 // when it was written last, ms since 1970
	By    string
}

// State says in a word how the import stands.
func (s *Summary) State() string {
	switch {
	case s.Writing:
		return "running"
	case s.Ended:
		return "done"
	}
	return "interrupted"
}

// List returns the imports that can be taken back, oldest first.
func List(ctx context.Context, s store.Importer) ([]Summary, error) {
	list, err := s.Imports(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Summary, 0, len(list))
	for _, x := range list {
		one := Summary{Imported: x}
		var last *note
		err := s.ImportNotes(ctx, x.Name, func(_ uint64, b []byte) error {
			n, err := decodeNote(b)
			if err != nil {
				return nil //nolint:nilerr // said where it is used
			}
			one.Files += n.Read
			last = n
			return nil
		})
		if err != nil {
			return nil, err
		}
		if last != nil {
			one.Ended, one.At, one.By = last.Ended, last.At, last.By
		}
		out = append(out, one)
	}
	return out, nil
}
