package bolt

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Missing is what answers may lack.
func (s *Store) Missing() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.broken)
}

// addLoss keeps a loss that was found while the store is being opened, and has answers say it.
func (s *Store) addLoss(x manifest.Loss) {
	s.list.losses = append(s.list.losses, x)
	err := asError(x)
	s.broken = append(s.broken, err)
	s.log.Error("part of the store is missing from answers", "error", err)
}

// recordLoss says in the manifest that a partition was set aside: it stays so until the file is dealt with.
// s.mu is not held.
func (s *Store) recordLoss(p *partition, aside string, cause error) {
	l := &s.list
	x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(aside)), Found: now(), Text: clipText(cause)}
	if !l.opened {
		l.losses = append(l.losses, x)
		l.gone[p.part.String()] = true
		return
	}
	err := l.file.Update(func(c *manifest.Content) {
		c.Lose(x)
		if was := c.Part(p.part.String()); was != nil {
			*was = manifest.Part{Name: was.Name, Unmarked: was.Unmarked}
		}
	})
	if err != nil {
		s.log.Warn("the manifest", "error", err)
	}
}

// clipText is an error as it is kept: of bounded length.
func clipText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return text[:min(len(text), 400)]
}

// forgetBroken is drop's other half; s.mu is held.
func (s *Store) forgetBroken(part store.Part) {
	s.broken = slices.DeleteFunc(slices.Clone(s.broken), func(err error) bool {
		var m *missingError
		return errors.As(err, &m) && upTo(m.part, part)
	})
}

// missingError is a loss as answers say it.
type missingError struct {
	part         string
	text         string
	minMs, maxMs int64
	batch        uint64
}

func asError(x manifest.Loss) error {
	return &missingError{part: x.Part, text: x.Text, minMs: x.MinMs, maxMs: x.MaxMs, batch: x.Batch}
}

func (m *missingError) Error() string {
	return store.ErrDamaged.Error() + ": " + strings.TrimPrefix(m.text, store.ErrDamaged.Error()+": ")
}

func (m *missingError) Unwrap() error { return store.ErrDamaged }

// concerning are the losses that may have had an answer to a query.
func concerning(broken []error, q *query.Query) []error {
	return slices.DeleteFunc(slices.Clone(broken), func(err error) bool {
		var m *missingError
		if !errors.As(err, &m) {
			return false
		}
		return m.maxMs > 0 && (q.StartMs != 0 && m.maxMs < q.StartMs || q.EndMs != 0 && m.minMs > q.EndMs) || m.batch > 0 && m.batch <= q.AfterBatch
	})
}

// Forget no longer misses a partition that is gone for good, or with "all" anything
// that is known to be missing, but for files that lie set aside. It says how many
// things it has forgotten.
func (s *Store) Forget(name string) (n int, err error) {
	match := func(x manifest.Loss) bool {
		aside := x.File != "" && x.File != manifest.Name
		return name != "" && x.Part == name || name == "all" && !aside
	}
	err = s.list.file.Update(func(c *manifest.Content) {
		before := len(c.Lost)
		c.Lost = slices.DeleteFunc(c.Lost, match)
		n = before - len(c.Lost)
	})
	return n, err
}
