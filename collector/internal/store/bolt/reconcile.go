package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// listed returns the manifest's entry of a partition that is sealed; Store.mu is held, or
// nobody else knows p.
func (p *partition) listed() manifest.Part {
	out := manifest.Part{Name: p.part.String(), Batch: p.place, Unmarked: p.id == seglog.ID{}, Compacted: p.compacted != nil}
	for i := range p.entries {
		e := &p.entries[i]
		if first, _ := e.batches(); i == 0 || first < out.First {
			out.First = first
		}
		out.Events += e.sum.Events
		out.Records += e.sum.Records
		out.Hosts = max(out.Hosts, e.sum.Hosts)
		if e.sum.MinMs != 0 && (out.MinMs == 0 || e.sum.MinMs < out.MinMs) {
			out.MinMs = e.sum.MinMs
		}
		out.MaxMs = max(out.MaxMs, e.sum.MaxMs)
	}
	return out
}

// difference returns why a partition, as it is, cannot be the one that was sealed under its
// name; "" when it can. It may hold more than was sealed: a batch may have gone to a day
// again, when the clock went back to it.
func difference(was, is *manifest.Part) string {
	if was.Batch == 0 || is.Batch >= was.Batch && (is.First == was.First || was.Events == 0) && is.Events >= was.Events {
		return ""
	}
	return fmt.Sprintf("it is not the file that was sealed: that had batches %d to %d with %d events, this one has %d to %d with %d",
		was.First, was.Batch, was.Events, is.First, is.Batch, is.Events)
}

// reconcile compares the partitions that are there with those that are listed, adds what
// is missing to the losses, and, unless the store is opened to be read, lists what is
// there. It is Open's last step.
func (s *Store) reconcile() error {
	l := &s.list
	var c manifest.Content
	if l.file != nil {
		c = l.file.Content()
	}
	s.stillLost(&c)
	if l.missing != nil {
		s.addLoss(manifest.Loss{File: manifest.Name, Text: l.missing.Error(), Found: now()})
	}
	mine := map[string]*partition{}
	for _, p := range s.parts {
		mine[p.part.String()] = p
	}
	whole := len(l.gone) == 0 // no partition is missing: then the last batch must be there
	for _, was := range slices.Clone(c.Parts) {
		p := mine[was.Name]
		switch {
		case p == nil && l.gone[was.Name]:
			c.Remove(was.Name)
		case p == nil && s.setAsideByHand(was):
			whole = false
			c.Remove(was.Name)
		case p == nil && !s.fileExists(was.Name):
			whole = false
			c.Remove(was.Name)
			s.addLoss(manifest.Loss{Part: was.Name, Found: now(), MinMs: was.MinMs, MaxMs: was.MaxMs, Records: was.Records, Hosts: was.Hosts, Batch: was.Batch,
				Text: fmt.Sprintf("%s%s is missing: it was deleted or moved away, and not by retention", filepath.Join(layout.Partitions, was.Name), layout.Suffix)})
		case p != nil && !l.remade[was.Name]:
			if is := p.listed(); difference(&was, &is) != "" {
				s.addLoss(manifest.Loss{Text: fmt.Sprintf("%s%s: %s", filepath.Join(layout.Partitions, was.Name), layout.Suffix, difference(&was, &is)), Found: now(),
					MinMs: was.MinMs, MaxMs: was.MaxMs, Batch: was.Batch})
			}
		}
	}
	if whole && s.state.ID < c.Batch {
		s.addLoss(manifest.Loss{Found: now(), Text: fmt.Sprintf("%s: the last batch is %d, and %d was stored: an older copy of the day that was being written", layout.Partitions, s.state.ID, c.Batch)})
	}
	l.opened = true
	if s.opts.ReadOnly {
		return nil
	}
	return s.saveList(&c)
}

// saveList writes the list as it is after the opening, and then raises the version. In
// this order, because from version 3 on a manifest has to be there.
func (s *Store) saveList(c *manifest.Content) error {
	l := &s.list
	for _, p := range s.parts {
		one := p.listed()
		if p == s.cur && p.compacted == nil {
			one = manifest.Part{Name: one.Name, Unmarked: one.Unmarked}
		}
		c.Set(one)
	}
	c.Batch = s.state.ID
	for _, x := range l.losses {
		c.AddLoss(x)
	}
	first := l.adopt
	err := l.file.Update(func(out *manifest.Content) { *out = *c })
	if err == nil && first {
		err = l.file.Write() // also when it says nothing yet
	}
	if err != nil || s.version >= layout.SealedVersion {
		return err
	}
	return s.markNew()
}

// stillLost goes through the losses of before. A partition that is there again, and a
// file set aside that is no longer there, are taken off; Missing has the rest.
func (s *Store) stillLost(c *manifest.Content) {
	c.Lost = slices.DeleteFunc(c.Lost, func(x manifest.Loss) bool {
		switch {
		case x.Part != "":
			return slices.ContainsFunc(s.parts, func(p *partition) bool { return p.part.String() == x.Part })
		case x.File != "" && x.File != manifest.Name:
			_, err := os.Lstat(filepath.Join(s.opts.Dir, x.File))
			return errors.Is(err, fs.ErrNotExist)
		}
		return false
	})
	for _, x := range c.Lost {
		s.broken = append(s.broken, asError(x))
	}
}

// fileExists reports whether a partition's file is there, whether it could be opened or
// not.
func (s *Store) fileExists(name string) bool {
	_, err := os.Lstat(filepath.Join(s.opts.Dir, layout.Partitions, name+layout.Suffix))
	return err == nil
}

// setAsideByHand reports whether somebody has set a listed partition aside, under the name that
// the store would give it, or salvage has brought back what was readable of it. In the
// first case that is a loss, which it adds.
func (s *Store) setAsideByHand(was manifest.Part) bool {
	dir := filepath.Join(s.opts.Dir, layout.Partitions)
	if m, _ := filepath.Glob(filepath.Join(dir, was.Name+layout.Suffix+layout.AsideMark+"*")); len(m) > 0 { // the pattern is well-formed
		x := manifest.Loss{File: filepath.Join(layout.Partitions, filepath.Base(m[0])), Found: now(), MinMs: was.MinMs, MaxMs: was.MaxMs, Records: was.Records, Hosts: was.Hosts, Batch: was.Batch}
		x.Text = x.File + ": set aside: `collector salvage` brings back what is readable of it"
		s.addLoss(x)
		return true
	}
	m, _ := filepath.Glob(filepath.Join(dir, was.Name+layout.Suffix+layout.SalvagedMark+"*"))
	return len(m) > 0
}
