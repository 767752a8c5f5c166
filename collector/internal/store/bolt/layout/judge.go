package layout

import (
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
)

// Compaction writes partitions, and then one change of the manifest puts them in the place of others, whose
// files are deleted after that. Whoever reads the folder without having made that change, a start after a crash
// above all, may find both, and must read the ones or the others.

// Verdict is what is to be done with a partition's file that is there.
type Verdict uint8

const (
	// Counts is a file that is read.
	Counts Verdict = iota
	// Unfinished is a partition that compaction has made and that did not come to count: what it was made of does.
	Unfinished
	// Rewritten is a partition whose events are in others, as the manifest says: it is deleted.
	Rewritten
	// Doubtful is one that is not read either, but not deleted: it is not quite what the manifest says, or there is no
	// manifest to say it, or what has its events is not all there.
	Doubtful
)

// Judged is what is known of a partition's file.
type Judged struct {
	store.Part
	First, Last uint64 // its first batch with events, and its place
	Events      uint64
	Compacted   *Compacted
	Sound       bool // it can be opened
}

// Judge says of each file that is not to be read what it is; of the others nothing. list is the manifest; nil where there
// was no usable one.
func Judge(list *manifest.Content, files []Judged) map[store.Part]Verdict {
	out := map[store.Part]Verdict{}
	sound := map[string]*Judged{}
	for i := range files {
		if f := &files[i]; f.Sound {
			sound[f.Part.String()] = f
		}
	}
	for i := range files {
		f := &files[i]
		var verdict Verdict
		if list != nil {
			verdict = byList(list, f, sound)
		} else {
			verdict = byMarks(files, f, sound)
		}
		if verdict != Counts {
			out[f.Part] = verdict
		}
	}
	return out
}

// byList judges a file by the manifest.
func byList(list *manifest.Content, f *Judged, sound map[string]*Judged) Verdict {
	name := f.Part.String()
	if list.Part(name) != nil {
		return Counts
	}
	if note := list.ReplacedBy(name); note != nil {
		same := f.Sound && f.First == note.First && f.Last == note.Batch && f.Events == note.Events
		if same && !lacks(list, note, sound) {
			return Rewritten
		}
		return Doubtful
	}
	if f.Compacted == nil {
		return Counts
	}
	verdict := Counts
	for _, s := range f.Compacted.Sources {
		source := s.Part.String()
		// Others were made of it later: this one is left of a compaction that came to nothing, and nothing on the disk could be changed then.
		if note := list.ReplacedBy(source); note != nil && !slices.Contains(note.By, name) {
			if note.Batch != s.Last || lacks(list, note, sound) {
				return Doubtful
			}
			verdict = Unfinished
			continue
		}
		switch {
		case list.Part(source) == nil:
		case sound[source] == nil: // so this one may be wanted
			return Doubtful
		default:
			verdict = Unfinished
		}
	}
	return verdict
}

// Asked returns of which other files the verdict of one depends that the manifest does not list.
func Asked(list *manifest.Content, f *Judged) (names []string) {
	if note := list.ReplacedBy(f.Part.String()); note != nil {
		return note.By
	}
	if f.Compacted == nil {
		return nil
	}
	for _, s := range f.Compacted.Sources {
		names = append(names, s.Part.String())
		if note := list.ReplacedBy(s.Part.String()); note != nil {
			names = append(names, note.By...)
		}
	}
	return names
}

// lacks reports whether a partition cannot be read that has events of one that was rewritten.
func lacks(list *manifest.Content, note *manifest.Replaced, sound map[string]*Judged) bool {
	return slices.ContainsFunc(note.By, func(by string) bool { return list.Part(by) != nil && sound[by] == nil })
}

// byMarks judges a file by what compaction has written into those that it made. They count when they are all there, or
// when what they were made of is not.
func byMarks(files []Judged, f *Judged, sound map[string]*Judged) Verdict {
	whole := func(c *Compacted) bool {
		return !slices.ContainsFunc(c.Parts, func(p store.Part) bool {
			s := sound[p.String()]
			return s == nil || s.Compacted == nil
		})
	}
	for i := range files {
		if g := &files[i]; g.Sound && g.Compacted != nil && (g.Compacted.Of(f.Part, f.Last) || !f.Sound && g.Compacted.Names(f.Part)) && whole(g.Compacted) {
			return Doubtful
		}
	}
	c := f.Compacted
	if c == nil || whole(c) {
		return Counts
	}
	for _, s := range c.Sources {
		if was := sound[s.Part.String()]; was != nil && was.Last == s.Last {
			return Doubtful
		}
	}
	return Counts
}
