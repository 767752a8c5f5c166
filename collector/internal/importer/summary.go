package importer

import (
	"context"
	"slices"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Summary is an import as it is listed.
type Summary struct {
	store.Imported
	Files int64 // that were read to their ends
	Notes int   // some of each session
	Ended bool  // the last session came to its end
	At    int64 // when it was written last, ms since 1970
	By    string
	Host  string // that has imported all of it itself; "": no host has
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

// Summaries are what the notes of a store's imports say of these. Each import's are read once, until it has another batch, or other parts: a fleet whose hosts
// import what they have has as many as hosts. Any number of goroutines may use it; the zero value knows nothing.
type Summaries struct {
	mu sync.Mutex // guards of
	of map[string]Summary
}

// List returns the imports that can be taken back, oldest first.
func (l *Summaries) List(ctx context.Context, s store.Importer) ([]Summary, error) {
	list, err := s.Imports(ctx)
	if err != nil {
		return nil, err
	}
	out, of := make([]Summary, 0, len(list)), map[string]Summary{}
	for _, x := range list {
		l.mu.Lock()
		one, known := l.of[x.Name]
		l.mu.Unlock()
		if !known || one.Last != x.Last || !slices.Equal(one.Parts, x.Parts) {
			if one, err = summaryOf(ctx, s, x.Name); err != nil {
				return nil, err
			}
		}
		one.Imported = x
		of[x.Name], out = one, append(out, one)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of = of
	return out, nil
}

// summaryOf reads the notes of an import.
func summaryOf(ctx context.Context, s store.Importer, name string) (one Summary, err error) {
	own := true
	var last *Outline
	err = s.ImportNotes(ctx, name, func(_ uint64, b []byte) error {
		one.Notes++
		n, err := outlineOf(b)
		if err != nil {
			own = false
			return nil //nolint:nilerr // said where it is used
		}
		one.Files += n.Read
		if own = own && (last == nil || n.Host == last.Host); own {
			one.Host = n.Host
		}
		last = &n
		return nil
	})
	if !own {
		one.Host = ""
	}
	if last != nil {
		one.Ended, one.At, one.By = last.Ended, last.At, last.By
	}
	return one, err
}
