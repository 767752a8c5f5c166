package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Inspect reads a whole log, without its lock and without changing anything, and returns
// what an Open would find: Damaged without SetAside, Torn without a cut. In a log that
// another process writes, Torn is what that process is writing. Inspect calls aside,
// unless nil, for each file that an earlier Open has set aside, and read, unless nil, with
// the number of bytes read so far. It uses only FS, Dir and Kind of o.
func Inspect(o Options, aside func(name string, size int64), read func(bytes int64)) (*Recovery, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	rec, err := &Recovery{}, error(nil)
	for range 10 {
		// Segments may be deleted while they are looked at.
		if rec, err = inspect(o, read); !isNotExist(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read log %s: %w", o.Dir, err)
	}
	if aside == nil {
		return rec, nil
	}
	names, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("read log %s: %w", o.Dir, err)
	}
	for _, name := range names {
		if !strings.Contains(name, ".seg"+asideSuffix) {
			continue
		}
		size := int64(-1)
		if f, err := o.FS.OpenFile(filepath.Join(o.Dir, name), os.O_RDONLY, 0); err == nil {
			if n, err := f.Size(); err == nil {
				size = n
			}
			f.Close()
		}
		aside(name, size)
	}
	return rec, nil
}

// inspect is one attempt of Inspect; fs.ErrNotExist when a segment was deleted meanwhile.
func inspect(o Options, read func(int64)) (*Recovery, error) {
	dir, err := readFolder(o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the log's folder or a file in it", err)
	}
	if err != nil {
		return nil, err
	}
	rec := &Recovery{First: 1}
	rec.Damaged = append(rec.Damaged, dir.misfitDamage()...)
	for _, lost := range dir.headless {
		if !lost.aside {
			rec.Damaged = append(rec.Damaged, Damage{File: lost.name, Bytes: lost.size, First: lost.first, Last: lost.last,
				Certain: lost.certain, Err: lost.err})
		}
	}
	end := int64(0)
	for i, seg := range dir.segments {
		until := uint64(0)
		if i+1 < len(dir.segments) {
			until = dir.segments[i+1].first - 1
		}
		found, size, err := inspectSegment(o, seg, until)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", seg.name, err)
		}
		if seg.bad != nil {
			rec.Damaged = append(rec.Damaged, Damage{File: seg.name, Offset: seg.bad.off, Bytes: headerSize,
				First: seg.first, Last: seg.first - 1, Certain: true, Err: seg.bad.err})
		}
		rec.Damaged = append(rec.Damaged, found.damaged...)
		rec.Unsynced = append(rec.Unsynced, found.unsynced...)
		rec.Gaps = append(rec.Gaps, found.gaps...)
		rec.Torn, rec.Last, end = found.torn, found.next-1, found.end
		rec.Bytes += size
		if read != nil {
			read(rec.Bytes)
		}
	}
	var newest *segment
	rec.Segments = len(dir.segments)
	if rec.Segments > 0 {
		rec.First, newest = dir.segments[0].first, dir.segments[rec.Segments-1]
	}
	rec.Damaged = append(rec.Damaged, dir.missing(o.Known, newest, max(rec.Last+1, dir.next), end)...)
	return rec, nil
}

// inspectSegment checks a segment that may be written meanwhile.
func inspectSegment(o Options, seg *segment, until uint64) (*checked, int64, error) {
	file, err := o.FS.OpenFile(filepath.Join(o.Dir, seg.name), os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, 0, err
	}
	found, err := checkSegment(file, seg, until, o.Known.Last)
	if err != nil || len(found.damaged)+len(found.unsynced) == 0 {
		return found, size, err
	}
	// A read beside a write may see its end and not yet its beginning. What was
	// whole in a second look is not damaged; what is new in it, likewise.
	again, err := checkSegment(file, seg, until, o.Known.Last)
	if err != nil {
		return nil, 0, err
	}
	again.damaged = seenTwice(again.damaged, found.damaged)
	again.unsynced = seenTwice(again.unsynced, found.unsynced)
	return again, size, nil
}

// seenTwice returns the damage of again that before has, too.
func seenTwice(again, before []Damage) []Damage {
	return slices.DeleteFunc(again, func(d Damage) bool {
		return !slices.ContainsFunc(before, func(f Damage) bool { return f.Offset == d.Offset })
	})
}
