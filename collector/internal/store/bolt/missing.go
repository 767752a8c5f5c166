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
	out := slices.Clone(s.broken)
	for _, u := range s.unreadable {
		out = append(out, u.err)
	}
	return out
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
func (s *Store) recordLoss(p *partition, aside string, cause error, of manifest.Loss) {
	l := &s.list
	x := of
	x.File, x.Found, x.Text = filepath.Join(layout.Partitions, filepath.Base(aside)), now(), clipText(cause)
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

// forgetBroken takes a partition, and with older those before it, out of what Missing returns, as listing.drop
// takes them out of the manifest; s.mu is held.
func (s *Store) forgetBroken(part store.Part, older bool) {
	s.broken = slices.DeleteFunc(slices.Clone(s.broken), func(err error) bool {
		var m *missingError
		return errors.As(err, &m) && (m.part == part.String() || older && upTo(m.part, part))
	})
}

// missingError is a loss of the manifest as an error, which wraps store.ErrDamaged.
type missingError struct {
	part         string
	text         string
	minMs, maxMs int64  // of the events that are missing; 0 where that is not known
	records      uint64 // how many are missing; 0 where that is not known
	hosts        uint64 // of how many hosts
	day          fileDay
	batch        uint64 // the last of its batches; 0 where that is not known
}

// Extent implements store.Damage.
func (m *missingError) Extent() (fromMs, toMs int64, records, hosts uint64) {
	return m.day.or(m.minMs, m.maxMs, m.records, m.hosts)
}

// fileDay is the day of receipt that a lost partition's name says; 0 where there is none. Events
// may be of any other time, so it is no reason to leave a loss out of an answer.
type fileDay store.Day

func dayOfFile(x manifest.Loss) fileDay {
	name, _, _ := strings.Cut(filepath.Base(x.File), layout.Suffix)
	if x.Part != "" {
		name = x.Part
	}
	part, err := store.ParsePart(name)
	if err != nil {
		return 0
	}
	return fileDay(part.Day)
}

// or returns an extent, by the day where it has no times.
func (d fileDay) or(from, to int64, records, hosts uint64) (int64, int64, uint64, uint64) {
	if to == 0 && d != 0 {
		begin := store.Day(d).Time()
		from, to = begin.UnixMilli(), begin.AddDate(0, 0, 1).UnixMilli()
	}
	return from, to, records, hosts
}

// extent is what is known of all that a partition has, or had: by what was read of it, or by the
// manifest.
func (s *Store) extent(p *partition) (x manifest.Loss) {
	was := manifest.Part{}
	if s.list.file != nil {
		c := s.list.file.Content()
		if m := c.Part(p.part.String()); m != nil {
			was = *m
		}
	}
	if is := p.listed(); is.Events > 0 {
		was = is
	}
	return manifest.Loss{MinMs: was.MinMs, MaxMs: was.MaxMs, Records: was.Records, Hosts: was.Hosts}
}

// asError returns a loss as a *missingError.
func asError(x manifest.Loss) error {
	return &missingError{part: x.Part, text: x.Text, minMs: x.MinMs, maxMs: x.MaxMs, records: x.Records, hosts: x.Hosts, day: dayOfFile(x), batch: x.Batch}
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

// lostError is damage that this process has found, with the extent of what is lost.
type lostError struct {
	error
	of   manifest.Loss
	host string // whose it was, where it is known; "": see of
}

func (e *lostError) Unwrap() error { return e.error }

// Extent implements store.Damage.
func (e *lostError) Extent() (fromMs, toMs int64, records, hosts uint64) {
	return dayOfFile(e.of).or(e.of.MinMs, e.of.MaxMs, e.of.Records, e.of.Hosts)
}

// Host implements store.HostDamage.
func (e *lostError) Host() string { return e.host }
