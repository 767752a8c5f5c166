package upkeep

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// judgeManifest judges the manifest, as it was read before the files were listed; err is why there
// is none. One that can be used becomes v.list.
func (v *verify) judgeManifest(c *manifest.Content, err error) error {
	path := filepath.Join(v.o.Dir, manifest.Name)
	if err == nil {
		if other := raw.OtherStore(v.files, c.ID); other != (seglog.ID{}) {
			v.damage("%s: it is of another store, %s, and the partitions are of %s: put this store's own back; otherwise the next start begins one, and what was taken away or put in cannot be told", path, c.ID, other)
			return nil
		}
	}
	switch {
	case err == nil:
		v.list = c
		if c.Why != "" {
			v.notef("%s: kept since %s; before that: %s: what was taken away or put in before cannot be told", path, c.Since.Format("2006-01-02 15:04:05 MST"), c.Why)
		}
	case errors.Is(err, fs.ErrNotExist) && v.files.Version < layout.ListedVersion && v.files.Version > 0:
		v.notef("%s: the store is of version %d and has none yet: what was taken away or put in cannot be told", path, v.files.Version)
	case errors.Is(err, fs.ErrNotExist):
		v.damage("%s: it is missing: what was taken away or put in cannot be told; the next start makes one", path)
	case errors.Is(err, manifest.ErrDamaged):
		v.damage("%v: what was taken away or put in cannot be told; the next start makes one", err)
	default:
		return err
	}
	return nil
}

// sameStore reports a file that is another store's.
func (v *verify) sameStore(path string, id seglog.ID) {
	if v.list != nil && id != (seglog.ID{}) && id != v.list.ID {
		v.damage("%s: offset 0: foreign: it is of the store %s, this is %s; the next start sets it aside", path, id, v.list.ID)
	}
}

// missing compares the partitions with those that are listed. A server may make and drop
// some meanwhile, so a partition is missing only when it was listed before the files were
// looked at, and is listed still.
func (v *verify) missing() {
	if v.list == nil {
		return
	}
	after := v.list
	if v.rep.Server != "" {
		c, err := manifest.Load(fsys.OS, v.o.Dir)
		if err != nil {
			v.damage("%v", err)
			return
		}
		after = c
	}
	dir := filepath.Join(v.o.Dir, "partitions")
	for _, was := range v.list.Parts {
		path := filepath.Join(dir, was.Name+".db")
		i := slices.IndexFunc(v.files.Partitions, func(f layout.PartFile) bool { return f.Part.String() == was.Name })
		switch {
		case i < 0 && slices.ContainsFunc(append(slices.Clone(v.files.Aside), v.files.Salvaged...), func(rel string) bool {
			return strings.HasPrefix(filepath.Base(rel), was.Name+".db.")
		}): // aside reports it with that file
		case i < 0 && after.Part(was.Name) != nil:
			v.damage("%s: missing: it was deleted or moved away, and not by retention%s", path, heldText(&was))
		case i >= 0:
			v.sealed(path, &was)
		}
	}
	for _, f := range v.files.Partitions {
		if v.list.Part(f.Part.String()) == nil && after.Part(f.Part.String()) == nil && v.rep.Server == "" {
			v.unlisted(f)
		}
	}
	for _, x := range after.Lost {
		if x.File != "" && x.File != manifest.Name {
			continue // aside reports it with the file, or it was dealt with
		}
		next := "once it is dealt with, no longer said after `collector salvage --forget all`"
		if x.Part != "" {
			next = "put it back, or say that it is gone for good: `collector salvage --forget " + x.Part + "`"
		}
		v.damage("%s: found at the start of %s: %s: %s", v.o.Dir, x.Found.Format("2006-01-02 15:04:05 MST"), x.Text, next)
	}
	if d := after.Dropped; d.Count > 0 {
		v.notef("%s: %d partitions were dropped, by retention or with imports that were taken back, the last one, %s, at %s", dir, d.Count, d.Last, d.At.Format("2006-01-02 15:04:05 MST"))
	}
}

// heldText returns, in words, what a partition held when it was sealed; "" when that is not
// known.
func heldText(p *manifest.Part) string {
	if p.Batch == 0 {
		return ""
	}
	return fmt.Sprintf("; it had batches %d to %d with %d events", p.First, p.Batch, p.Events)
}

// report returns the report of the partition at path; nil when it was not read.
func (v *verify) report(path string) *raw.PartReport {
	for _, p := range v.rep.Parts {
		if p.Path == path {
			return p
		}
	}
	return nil
}

// sealed compares a partition with its entry in the manifest, as it was when it was sealed.
func (v *verify) sealed(path string, was *manifest.Part) {
	p := v.report(path)
	switch {
	case p == nil:
	case p.ID == (seglog.ID{}) && !was.Unmarked && len(p.Findings) == 0:
		v.damage("%s: offset 0: foreign: it does not say which store it is of, and this is %s; the next start sets it aside", path, v.list.ID)
	case was.Batch > 0 && (p.State != nil || p.Compacted != nil) && (p.Last < was.Batch || p.FirstID != was.First && was.Events > 0 || p.Catalogued < was.Events):
		v.damage("%s: it is not the file that was sealed%s; it has %d to %d with %d events", path, heldText(was), p.FirstID, p.Last, p.Catalogued)
	}
}

// unlisted judges a partition that the manifest does not list. With the store's ID it was
// dropped or missed before and came back; without any it is another store's, unless the
// manifest misses one of that name.
func (v *verify) unlisted(f layout.PartFile) {
	p := v.report(f.Path)
	came := slices.ContainsFunc(v.list.Lost, func(x manifest.Loss) bool { return x.Part == f.Part.String() })
	switch {
	case p == nil || p.ID != (seglog.ID{}) && p.ID != v.list.ID: // reported already
	case p.ID == (seglog.ID{}) && !came:
		v.damage("%s: offset 0: foreign: it does not say which store it is of, and this is %s; the next start sets it aside", f.Path, v.list.ID)
	case p.Groups > 0:
		v.notef("%s: not listed: it was dropped or missed before, and came back", f.Path)
	}
}

// journalReport verifies the journal. A server may make and trim segments meanwhile, which
// the manifest shows: then what seems wrong may be no damage, and the journal is verified
// again, up to ten times.
func (v *verify) journalReport() (*journal.Report, error) {
	for attempt := 1; ; attempt++ {
		rep, err := journal.Verify(v.journalOptions(), nil, nil)
		if err != nil || v.list == nil || v.rep.Server == "" || rep.Disk.Clean() || attempt == 10 {
			return rep, err
		}
		c, err := manifest.Load(fsys.OS, v.o.Dir)
		if err != nil || c.Journal.Equal(v.list.Journal) {
			return rep, nil //nolint:nilerr // missing reports what is wrong with the manifest
		}
		v.list.Journal = c.Journal
	}
}

// list writes the copy's manifest: the store's ID, the partitions that were copied, and
// what is missing in the store, which is missing in its copy, too.
func (b *backup) list(m *raw.Moment) error {
	if b.before == nil {
		return nil
	}
	c := *b.after
	// A list of holds that is not there though it should be, or is damaged, is so in the copy, too.
	held, err := hold.Copy(b.o.Dir, b.new())
	if err != nil {
		b.damaged([]error{err})
	}
	if held.Generation > c.Holds { // changed since the manifest was read
		c.SetHeld(held)
	}
	c.Parts, c.Batch, c.Journal = nil, m.State.ID, b.journal
	copied := map[string]bool{}
	for _, p := range m.Parts {
		name := p.Part.String()
		copied[name] = true
		one := manifest.Part{Name: name}
		was := b.before.Part(name)
		if was == nil && m.List != nil { // made since
			was = m.List.Part(name)
		}
		if was != nil {
			one.Unmarked, one.Compacted = was.Unmarked, was.Compacted
			if !p.Current {
				one = *was
			}
		}
		c.Set(one)
	}
	for _, was := range b.before.Parts {
		if !copied[was.Name] && b.after.Part(was.Name) != nil && (m.List == nil || m.List.Part(was.Name) != nil) {
			c.Set(was)
		}
	}
	// What was set aside is not copied.
	c.Lost = slices.DeleteFunc(slices.Clone(c.Lost), func(x manifest.Loss) bool { return x.File != "" && x.File != manifest.Name })
	return manifest.Save(fsys.OS, b.new(), &c)
}
