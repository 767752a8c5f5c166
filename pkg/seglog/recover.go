package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Recovery is what Open found and did. After a clean end only First, Last, Segments and
// Bytes are set.
type Recovery struct {
	First, Last uint64 // indexes of the first and last entry; First is Last+1 when there is none
	Segments    int
	Bytes       int64
	// Torn is the end of the newest segment that was cut: a write that had not
	// become durable when the machine or process stopped.
	Torn *Torn
	// Damaged lists what was found damaged by this Open; each place was copied
	// beside the segment before it was marked as a gap.
	Damaged []Damage
	// Unsynced lists the holes that a power loss tore into appends which nothing shows
	// to have been synced: neither damage nor loss, as nobody was told that these
	// entries are safe. They were marked as gaps; what is there behind them is kept.
	Unsynced []Damage
	// Gaps are ranges marked as lost by an earlier Open and still in the log.
	Gaps []Gap
	// Removed are files of segments that were never finished or are replaced by
	// a later one as a whole.
	Removed []string
	// Resynced is the first entry of those at the end whose durability was not
	// on record: they were written to stable storage again. 0 when none.
	Resynced uint64
}

// Torn is the end of a segment that Open cut off.
type Torn struct {
	File   string
	Offset int64
	Bytes  int64  // cut, zeroes at the end not counted
	Index  uint64 // of the first entry that is not there
}

// Damage is one damaged place, or a file that is missing or does not belong.
type Damage struct {
	File   string // segment
	Offset int64
	Bytes  int64 // damaged bytes, 0 when they are missing altogether
	// First to Last are lost, at most; none when First > Last.
	First, Last uint64
	// Certain says that these entries had been durable. It is always set in
	// Recovery.Damaged, but for a segment whose header is lost, and never in
	// Recovery.Unsynced.
	Certain  bool
	SetAside string // file that holds the damaged bytes, "" when there are none
	Err      error
}

// Gap is a range of lost entries, both ends included, that a gap frame in File records.
type Gap struct {
	File        string
	Offset      int64
	First, Last uint64
	// Unsynced says that they were never known to be durable: see Recovery.Unsynced.
	Unsynced bool
}

// Clean reports whether Open cut nothing and found no damage.
func (r *Recovery) Clean() bool {
	return r.Torn == nil && len(r.Damaged) == 0 && len(r.Unsynced) == 0
}

// NeverSynced reports whether all entries from first to last are missing because a power loss
// took them before they were synced: see Unsynced.
func (r *Recovery) NeverSynced(first, last uint64) bool {
	for next := first; next <= last; {
		at := next
		for _, u := range r.Unsynced {
			if u.First <= next && next <= u.Last {
				next = u.Last + 1
			}
		}
		for _, g := range r.Gaps {
			if g.Unsynced && g.First <= next && next <= g.Last {
				next = g.Last + 1
			}
		}
		if next == at {
			return false
		}
	}
	return true
}

// String describes the log and what Open found and did, on one line.
func (r *Recovery) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "entries %d to %d in %d segments, %d bytes", r.First, r.Last, r.Segments, r.Bytes)
	if t := r.Torn; t != nil {
		fmt.Fprintf(&b, "; %s: cut %d bytes of an unfinished write at offset %d (entry %d)", t.File, t.Bytes, t.Offset, t.Index)
	}
	for _, d := range r.Damaged {
		fmt.Fprintf(&b, "; %s: damaged at offset %d", d.File, d.Offset)
		switch {
		case d.First > d.Last:
			b.WriteString(", no entry lost")
		case d.Certain:
			fmt.Fprintf(&b, ", entries %d to %d lost", d.First, d.Last)
		default:
			fmt.Fprintf(&b, ", entries %d to %d lost, if they were ever synced", d.First, d.Last)
		}
		if d.SetAside != "" {
			fmt.Fprintf(&b, ", set aside in %s", d.SetAside)
		}
	}
	for _, u := range r.Unsynced {
		fmt.Fprintf(&b, "; %s: a hole of %d bytes in what was not synced, at offset %d (entries %d to %d)", u.File, u.Bytes, u.Offset, u.First, u.Last)
	}
	return b.String()
}

// Open opens the log in o.Dir, or begins one, and locks the folder. It checks
// every frame, cuts a torn end, marks damaged places after setting them aside,
// and makes sure that every entry it reports is durable. Errors: fsys.ErrLocked,
// ErrMagic, ErrVersion, ErrKind, ErrChecksum (a header that contradicts its
// name), or what the filesystem reports; Open has then released the folder.
func Open(o Options) (_ *Log, _ *Recovery, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open log %s: %w", o.Dir, err)
		}
	}()
	if err := makeDir(o); err != nil {
		return nil, nil, err
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, lockName))
	if err != nil {
		if errors.Is(err, fsys.ErrLocked) {
			err = fmt.Errorf("%w: stop it or use another folder", err)
		}
		return nil, nil, err
	}
	l := &Log{opt: o, lock: lock}
	l.wake = sync.NewCond(&l.mu)
	rec, err := l.recover()
	if err != nil {
		if l.file != nil {
			_ = l.file.Close()
		}
		_ = lock.Close()
		return nil, nil, err
	}
	for _, seg := range *l.segments.Load() {
		if seg.held == nil {
			l.hold(seg)
		}
	}
	return l, rec, nil
}

// makeDir creates the folder and makes its name durable: also when it is there
// already, since an Open that failed half-way may have made it.
func makeDir(o Options) error {
	var parents []string
	at := filepath.Clean(o.Dir)
	for {
		_, err := o.FS.ReadDir(at)
		if err == nil || !isNotExist(err) || filepath.Dir(at) == at {
			if err != nil {
				return err
			}
			break
		}
		at = filepath.Dir(at)
		parents = append(parents, at)
	}
	if len(parents) == 0 {
		if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
			return err // it is there, and not safe
		}
		err := o.FS.SyncDir(filepath.Dir(at))
		if errors.Is(err, fs.ErrPermission) {
			return nil // somebody else's folder, and so made by somebody else
		}
		return err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	for _, dir := range parents {
		if err := o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// recover reads the folder, repairs what is damaged and fills l. Nobody else knows l yet,
// so it needs no lock.
func (l *Log) recover() (*Recovery, error) {
	dir, err := readFolder(l.opt)
	if err != nil {
		return nil, err
	}
	durable := l.opt.Known.Last
	if l.opt.Durable != nil {
		told, err := l.opt.Durable()
		if err != nil {
			return nil, err
		}
		durable = max(durable, told)
	}
	rec := &Recovery{}
	l.gen = dir.gen
	l.unmarked = l.opt.Known.Unmarked
	if l.opt.Known.Newest == 0 {
		l.unmarked = dir.gen
	}
	// A segment's name may have been there without being durable.
	if err := l.opt.FS.SyncDir(l.opt.Dir); err != nil {
		return nil, err
	}
	if err := l.tidy(dir, rec); err != nil {
		return nil, err
	}
	var list []*segment
	for i, seg := range dir.segments {
		until := uint64(0)
		if i+1 < len(dir.segments) {
			until = dir.segments[i+1].first - 1
		}
		if err := l.recoverSegment(seg, until, durable, dir, rec); err != nil {
			return nil, fmt.Errorf("%s: %w", seg.name, err)
		}
		list = append(list, seg)
	}
	if len(list) == 0 {
		rec.Damaged = append(rec.Damaged, dir.missing(l.opt.Known, nil, 0, 0)...)
		// The first of all, or the successor of one whose header is lost: its
		// indexes are past all that the lost one can have held.
		seg, file, _, err := createSegment(l.opt, max(dir.next, l.opt.Known.Last+1), l.gen+1)
		if err != nil {
			return nil, err
		}
		l.gen++
		l.synced.Store(seg.first - 1)
		l.last.Store(seg.first - 1)
		list = append(list, seg)
		l.activate(seg, file, list)
	}
	l.segments.Store(&list)
	if err := l.reportKnown(rec.Damaged); err != nil {
		return nil, err
	}
	if err := l.ensureID(); err != nil {
		return nil, err
	}
	list = *l.segments.Load()
	rec.First, rec.Last = l.First(), l.Last()
	rec.Segments, rec.Bytes = len(list), l.Size()
	return rec, nil
}

// ensureID begins a segment with the log's ID when the newest one has none, so that what is
// written from now on is known to be this log's. Open calls it, and nobody else knows l yet.
func (l *Log) ensureID() error {
	if l.opt.ID == (ID{}) || l.active.id == l.opt.ID {
		return nil
	}
	old := l.active
	seg, file, err := l.beginSegment()
	if err != nil {
		return err
	}
	list := slices.Clone(*l.segments.Load())
	if old.first == seg.first {
		list = list[:len(list)-1]
		l.garbage = append(l.garbage, old.name)
	}
	_ = l.file.Truncate(old.end.Load()) // unused preallocated space; left there, zeroes mean nothing
	_ = l.file.Close()
	l.activate(seg, file, append(list, seg))
	return nil
}

// tidy removes files that were never finished, that are replaced or whose deletion was
// interrupted, and sets aside segments whose header is lost and files that do not belong to
// the log.
func (l *Log) tidy(dir *folder, rec *Recovery) error {
	changed := false
	for _, name := range slices.Concat(dir.unfinished, dir.replaced, dir.dropping) {
		if err := l.opt.FS.Remove(filepath.Join(l.opt.Dir, name)); err != nil && !isNotExist(err) {
			return err
		}
		rec.Removed = append(rec.Removed, name)
		changed = true
	}
	for _, lost := range dir.headless {
		if lost.aside {
			continue
		}
		aside := lost.name + ".corrupt"
		if err := l.opt.FS.Rename(filepath.Join(l.opt.Dir, lost.name), filepath.Join(l.opt.Dir, aside)); err != nil {
			return err
		}
		rec.Damaged = append(rec.Damaged, Damage{
			File: lost.name, Bytes: lost.size, First: lost.first, Last: lost.last,
			Certain: lost.certain, SetAside: aside, Err: lost.err,
		})
		changed = true
	}
	if changed {
		if err := l.opt.FS.SyncDir(l.opt.Dir); err != nil {
			return err
		}
	}
	return dir.setAside(l.opt, rec)
}

// recoverSegment checks one segment, repairs it and, when it is the newest
// (until 0), makes it the active one.
func (l *Log) recoverSegment(seg *segment, until, durable uint64, dir *folder, rec *Recovery) error {
	path := filepath.Join(l.opt.Dir, seg.name)
	file, err := l.opt.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() {
		if file != l.file {
			_ = file.Close()
		}
	}()
	if seg.bad != nil {
		if _, err := file.WriteAt(seg.encode(), seg.bad.off); err != nil {
			return err
		}
		if err := file.Datasync(); err != nil {
			return err
		}
		rec.Damaged = append(rec.Damaged, Damage{
			File: seg.name, Offset: seg.bad.off, Bytes: headerSize, First: seg.first, Last: seg.first - 1, Certain: true, Err: seg.bad.err,
		})
	}
	found, err := checkSegment(file, seg, until, durable)
	if err != nil {
		return err
	}
	if err := l.repair(file, seg, found, rec); err != nil {
		return err
	}
	rec.Gaps = append(rec.Gaps, found.gaps...)
	seg.end.Store(found.end)
	if until != 0 {
		return nil
	}
	last := found.next - 1
	// A later segment was lost with its header, or taken away, or this one was cut:
	// never use the indexes again.
	rec.Damaged = append(rec.Damaged, dir.missing(l.opt.Known, seg, max(found.next, dir.next), found.end)...)
	if next := max(dir.next, l.opt.Known.Last+1); next > found.next {
		if err := putGap(file, seg, found.end, 0, next-1); err != nil {
			return err
		}
		seg.end.Store(found.end + frameHead)
		last = next - 1
	}
	return l.resume(file, seg, found, last, rec)
}

// resume makes the newest segment, which was checked and repaired, the active one. last is
// the log's last entry. Entries that no mark confirms are written again, byte for byte in
// place, before they are synced: a page whose write failed in the last process reads well
// from memory and counts as clean, so a mere sync would skip it.
func (l *Log) resume(file fsys.File, seg *segment, found *checked, last uint64, rec *Recovery) error {
	end := seg.end.Load()
	if confirmed := max(found.synced, seg.first-1); confirmed < last {
		rec.Resynced = confirmed + 1
		from := seg.near(confirmed + 1)
		if err := copyRange(file, from, file, from, end-from); err != nil {
			return err
		}
	}
	if err := file.Datasync(); err != nil {
		return err
	}
	if l.opt.Preallocate == PreallocateSpace && end < l.opt.SegmentBytes {
		_ = file.Allocate(end, l.opt.SegmentBytes-end)
	}
	l.active, l.file = seg, file
	l.entries = end > dataOffset
	l.syncedEnd = end
	l.marked = max(found.synced, seg.first-1)
	l.last.Store(last)
	l.synced.Store(last)
	return nil
}
