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

// Missing returns one error for each thing that answers may lack.
func (s *Store) Missing() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.broken)
}

// addLoss adds a loss that Open has found to what goes into the manifest and to what
// Missing returns. Open alone calls it.
func (s *Store) addLoss(x manifest.Loss) {
	s.list.losses = append(s.list.losses, x)
	err := asError(x)
	s.broken = append(s.broken, err)
	s.log.Error("part of the store is missing from answers", "error", err)
}

// recordLoss writes into the manifest that a partition was set aside, or has reconcile do
// so while the store is being opened. The entry stays until the file that was set aside is
// moved away or brought back. s.mu is not held.
func (s *Store) recordLoss(p *partition, aside string, cause error) {
	l := &s.list
	x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(aside)), Found: now(), Text: clipText(cause)}
	if !l.opened {
		l.losses = append(l.losses, x)
		l.gone[p.part.String()] = true
		return
	}
	err := l.file.Update(func(c *manifest.Content) {
		c.AddLoss(x)
		if was := c.Part(p.part.String()); was != nil {
			*was = manifest.Part{Name: was.Name, Unmarked: was.Unmarked}
		}
	})
	if err != nil {
		s.log.Warn("the manifest", "error", err)
	}
}

// clipText returns an error's text for the manifest: one line of at most 400 bytes.
func clipText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return text[:min(len(text), 400)]
}

// forgetBroken takes partitions up to part out of what Missing returns, as listing.drop
// takes them out of the manifest; s.mu is held.
func (s *Store) forgetBroken(part store.Part) {
	s.broken = slices.DeleteFunc(slices.Clone(s.broken), func(err error) bool {
		var m *missingError
		return errors.As(err, &m) && upTo(m.part, part)
	})
}

// missingError is a loss of the manifest as an error, which wraps store.ErrDamaged.
type missingError struct {
	part         string
	text         string
	minMs, maxMs int64  // of the events that are missing; 0 where that is not known
	batch        uint64 // the last of its batches; 0 where that is not known
}

// asError returns a loss as a *missingError.
func asError(x manifest.Loss) error {
	return &missingError{part: x.Part, text: x.Text, minMs: x.MinMs, maxMs: x.MaxMs, batch: x.Batch}
}

func (m *missingError) Error() string {
	return store.ErrDamaged.Error() + ": " + strings.TrimPrefix(m.text, store.ErrDamaged.Error()+": ")
}

func (m *missingError) Unwrap() error { return store.ErrDamaged }

// lossesFor returns the losses that may have held an event that matches q: all but those
// whose events are known to lie outside of q's times or batches.
func lossesFor(broken []error, q *query.Query) []error {
	return slices.DeleteFunc(slices.Clone(broken), func(err error) bool {
		var m *missingError
		if !errors.As(err, &m) {
			return false
		}
		return m.maxMs > 0 && (q.StartMs != 0 && m.maxMs < q.StartMs || q.EndMs != 0 && m.minMs > q.EndMs) || m.batch > 0 && m.batch <= q.AfterBatch
	})
}

// Forget removes losses from the manifest: that of a partition which is gone for good, by
// its name, or with "all" every loss, except those of files that lie set aside. It returns
// how many it has removed. What Missing returns stays as it is until the next Open.
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
