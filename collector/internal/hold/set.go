package hold

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Keeper keeps how a store's list was after its last change, in the store's manifest and its log: a list that is
// not there, an older one, or one that was changed by hand is then noticed.
type Keeper interface {
	Holds() store.Held
	KeepHolds(h store.Held, holds int, why string) error
}

// Set is a store's list of holds. Any number of goroutines may call its methods.
type Set struct {
	fs  fsys.FS
	dir string
	gen Keeper

	mu     sync.Mutex // guards everything below, and the writing of the file
	c      content
	broken error // why the file cannot be believed: then everything is on hold
}

// Open reads the list of the store in dir. It never fails: a list that cannot be read, or should be
// there and is not, puts everything on hold, and Broken says why. It writes nothing.
func Open(f fsys.FS, dir string, gen Keeper) *Set {
	s := &Set{fs: f, dir: dir, gen: gen}
	c, err := load(f, dir)
	known := gen.Holds()
	switch {
	case errors.Is(err, fs.ErrNotExist) && known.Generation == 0:
	case errors.Is(err, fs.ErrNotExist):
		s.broken = fmt.Errorf("%s is missing: holds were changed %d times", filepath.Join(dir, Name), known.Generation)
	case err != nil:
		s.broken = err
	case c.Generation < known.Generation:
		s.broken = fmt.Errorf("%s is an older one: it has %d changes, and there were %d", filepath.Join(dir, Name), c.Generation, known.Generation)
	case c.Generation == known.Generation && known.Hash != [32]byte{} && c.hash() != known.Hash:
		s.broken = fmt.Errorf("%s was changed by hand: its list is not that of change %d", filepath.Join(dir, Name), c.Generation)
	default:
		s.c = *c
	}
	return s
}

// Broken returns why the list cannot be believed, so that everything is on hold; nil when it can.
func (s *Set) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// List returns the holds, in the order in which they were added.
func (s *Set) List() []Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.c.Holds)
}

// Change makes a change and has it on stable storage before it returns. While the list cannot be
// believed only a change with All is made, which begins a new one and sets the file aside.
func (s *Set) Change(ch Change, now time.Time) ([]Done, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil && !ch.All {
		return nil, fmt.Errorf("%w: everything is on hold until a list is put back, or `collector hold remove --all` begins a new one", s.broken)
	}
	list, done, err := ch.apply(s.c.Holds, now.UTC().Round(0))
	if err != nil || len(done) == 0 && s.broken == nil {
		return nil, err
	}
	if s.broken != nil {
		if err := setAside(s.fs, s.dir, now); err != nil {
			return nil, fmt.Errorf("set the list of holds aside: %w", err)
		}
		done = append(done, Done{Op: "remove", What: "*", Reason: "the list could not be believed, and was begun anew", By: ch.By, At: now.UTC().Round(0)})
	}
	c := content{Generation: max(s.c.Generation, s.gen.Holds().Generation) + 1, Holds: list, Unsaid: append(slices.Clone(s.c.Unsaid), done...)}
	c.Unsaid = c.Unsaid[max(0, len(c.Unsaid)-maxUnsaid):]
	if err := save(s.fs, s.dir, &c); err != nil {
		return nil, fmt.Errorf("keep the list of holds: %w", err)
	}
	s.c, s.broken = c, nil
	// The file counts from now on. Where this fails, the next start does it.
	if err := s.gen.KeepHolds(c.held(), len(c.Holds), words(done)); err != nil {
		return done, fmt.Errorf("the change is made; %w", err)
	}
	return done, nil
}

// Unsaid returns the changes of which the collector's own records may not be stored yet.
func (s *Set) Unsaid() []Done {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.c.Unsaid)
}

// Settle has manifest and log keep how the list is, after a kill in between or in a store of before, and forgets the
// changes of Unsaid whose records are stored.
func (s *Set) Settle(stored []Done) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(s.c.Unsaid), func(d Done) bool { return slices.Contains(stored, d) })
	if len(left) < len(s.c.Unsaid) {
		c := s.c
		c.Unsaid = left
		if err := save(s.fs, s.dir, &c); err != nil {
			return fmt.Errorf("keep the list of holds: %w", err)
		}
		s.c = c
	}
	if s.c.Generation == 0 || s.gen.Holds() == s.c.held() {
		return nil
	}
	return s.gen.KeepHolds(s.c.held(), len(s.c.Holds), "the list as it was found; "+words(s.c.Unsaid))
}
