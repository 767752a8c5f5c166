package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// note is what is remembered with a batch.
type note struct {
	// Files are those that are new to the notes: whose records are all in this batch or earlier ones of the import, and none is
	// of another one, or of a sender: such a file is compared again, for what has its records may be gone by then.
	Files []importing.Known `json:"files,omitempty"`
	// Begun are those that are being read: their records up to End are in this batch or earlier ones, or in Open.
	Begun []importing.Known `json:"begun,omitempty"`
	Open  []open            `json:"open,omitempty"`
	Outline
}

// Outline is what a note says of the import itself.
type Outline struct {
	// Read is how many files were read to their ends, those of Files or not.
	Read  int64         `json:"read,omitempty"`
	Sum   importing.Sum `json:"sum"` // since the session began
	At    int64         `json:"at"`  // ms since 1970
	Ended bool          `json:"ended,omitempty"`
	By    string        `json:"by,omitempty"`
	// Host is the host that has imported its own records. What it says of files is gone by only where it imports again.
	Host string `json:"host,omitempty"`
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

// outlineOf reads of a note what it says of the import itself: it may have many files.
func outlineOf(b []byte) (o Outline, err error) {
	if err = json.Unmarshal(b, &o); err != nil {
		err = fmt.Errorf("%w: %w", errNote, err)
	}
	return o, err
}

// memory is what the notes of all imports say of files that were read, and those of the import that goes on of files that
// were begun.
type memory struct {
	done  []importing.Known
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
	importing.Known
	open []open
}

// recall reads the notes of all imports that the store has, to go on with one. Notes of a host are read for that host only,
// and for it no others' of files that are not its own. Where damage took something, no note of what it may have taken is believed: the
// records of all files are compared.
func recall(ctx context.Context, s store.Importer, l *Summaries, name, host string) (*memory, error) {
	list, err := l.List(ctx, s)
	if err != nil {
		return nil, err
	}
	m := &memory{begun: map[contentKey]begun{}}
	lacks := len(s.Missing()) > 0
	for _, x := range list {
		if x.Host != "" && x.Host != host && x.Name != name {
			continue
		}
		lacks := lacks || x.Lacks
		var last *note
		err := s.ImportNotes(ctx, x.Name, func(_ uint64, b []byte) error {
			n, err := decodeNote(b)
			if err != nil {
				return nil //nolint:nilerr // of a later version, or damaged: records are compared all the same
			}
			last = n
			if lacks || n.Host != "" && n.Host != host {
				return nil
			}
			for _, k := range n.Files {
				if host != "" && k.Node != host {
					continue
				}
				if m.done = append(m.done, k); host != "" && len(m.done) > mostFiles {
					return ErrFiles
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if last == nil || x.Name != name {
			continue
		}
		m.unfinished = !last.Ended
		if lacks || last.Host != "" && last.Host != host {
			continue
		}
		for _, k := range last.Begun {
			c, ok := k.Content()
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
