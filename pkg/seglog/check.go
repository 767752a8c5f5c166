package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// folder is what a log's folder holds.
type folder struct {
	segments   []*segment // in order, each with at least the chance of an entry
	unfinished []string   // of a segment that was being created
	replaced   []string   // segments given up before anything in them was durable
	headless   []headless
	gen        uint64 // highest generation seen
	next       uint64 // when a newest segment is headless: first index surely unused
}

// headless is a segment of which both header copies are unreadable. Its frames
// cannot be checked without the seed; its name says which entries it had.
type headless struct {
	name        string
	gen         uint64
	size        int64
	first, last uint64
	certain     bool
	aside       bool // renamed by an earlier Open, which may not have come further
	err         error
}

// asideSuffix is added to the name of a segment whose header is lost.
const asideSuffix = ".corrupt"

// readFolder reads names and headers. It changes nothing.
func readFolder(o Options) (*folder, error) {
	names, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return nil, err
	}
	dir := &folder{}
	for _, name := range names {
		if strings.HasSuffix(name, ".seg.tmp") {
			dir.unfinished = append(dir.unfinished, name)
			continue
		}
		first, gen, ok := parseName(strings.TrimSuffix(name, asideSuffix))
		if !ok {
			continue
		}
		dir.gen = max(dir.gen, gen)
		if err := dir.add(o, name, first, gen); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(o.Dir, name), err)
		}
	}
	return dir, dir.order()
}

func (d *folder) add(o Options, name string, first, gen uint64) error {
	file, err := o.FS.OpenFile(filepath.Join(o.Dir, name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return err
	}
	lost := headless{name: name, gen: gen, first: first}
	if lost.aside = strings.HasSuffix(name, asideSuffix); lost.aside {
		return d.addHeadless(lost, file, size, nil)
	}
	page := make([]byte, min(size, dataOffset))
	if n, err := file.ReadAt(page, 0); err != nil && (!errors.Is(err, io.EOF) || n < len(page)) {
		return err
	}
	h, bad, err := decodePage(page)
	switch {
	case errors.Is(err, ErrChecksum), errors.Is(err, ErrMagic) && (size < headerSize || allZero(page[:headerSize])):
		return d.addHeadless(lost, file, size, err)
	case err != nil:
		return fmt.Errorf("%w: move it away if it does not belong here", err)
	case h.kind != o.Kind:
		return fmt.Errorf("%w: %q, not %q", ErrKind, h.kind, o.Kind)
	case h.first != first || h.gen != gen:
		return fmt.Errorf("header says entry %d, generation %d, the name says otherwise: %w", h.first, h.gen, ErrChecksum)
	}
	d.segments = append(d.segments, &segment{header: h, name: name, bad: bad})
	return nil
}

func (d *folder) addHeadless(h headless, file fsys.File, size int64, cause error) (err error) {
	h.err = cause
	if h.size, err = lastByte(file, 0, size); err != nil {
		return err
	}
	h.last = h.first + uint64(h.size)/frameHead
	d.headless = append(d.headless, h)
	return nil
}

// order sorts by generation and settles which segment holds which entries: the
// existence of one with first index f says that everything below f was durable
// when it was made, and that what an older one holds from f on was given up.
func (d *folder) order() error {
	sort.Slice(d.segments, func(i, j int) bool { return d.segments[i].gen < d.segments[j].gen })
	kept := d.segments[:0]
	for i, s := range d.segments {
		if i+1 < len(d.segments) {
			next := d.segments[i+1]
			if next.gen == s.gen || next.first < s.first {
				return fmt.Errorf("%s and %s contradict each other: %w", s.name, next.name, ErrChecksum)
			}
			if next.first == s.first {
				d.replaced = append(d.replaced, s.name)
				continue
			}
		}
		kept = append(kept, s)
	}
	d.segments = kept
	for i := range d.headless {
		h := &d.headless[i]
		newest := true
		for _, s := range d.segments {
			if s.gen > h.gen {
				newest = false
				h.certain = true
				h.last = s.first - 1
				break
			}
		}
		if newest {
			d.next = max(d.next, h.last+1)
		}
	}
	return nil
}

// checked is the outcome of reading a whole segment.
type checked struct {
	end     int64  // behind the last frame, after repair
	next    uint64 // index of the entry that would come next
	synced  uint64 // highest mark
	gaps    []Gap
	damaged []Damage
	// unsynced are holes among entries that nothing shows to have been durable.
	unsynced []Damage
	torn     *Torn
}

// checkSegment reads a segment frame by frame. until is the last entry it must
// have, 0 for the newest one. Entries up to durable are known to have been on
// stable storage. It changes nothing but the segment's points.
func checkSegment(file fsys.File, seg *segment, until, durable uint64) (*checked, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	c := &checker{
		file: file, seg: seg, until: until, size: size,
		checked: checked{next: seg.first},
		r:       newFrameReader(file, seg.seed, dataOffset, int(min(size, 1<<20))),
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	all := c.damaged
	c.damaged = nil
	for _, d := range all {
		// A hole that begins behind all that is known to have been durable is what a
		// power loss leaves of appends that were not synced.
		if d.Certain = until != 0 || d.First <= max(c.synced, durable); d.Certain {
			c.damaged = append(c.damaged, d)
		} else {
			c.unsynced = append(c.unsynced, d)
		}
	}
	return &c.checked, nil
}

type checker struct {
	checked
	file  fsys.File
	seg   *segment
	until uint64
	size  int64
	r     *frameReader
	// reach is the highest index an entry may have right behind a damaged place,
	// 0 elsewhere: how many are lost there is known only from the next entry.
	reach uint64
}

func (c *checker) run() error {
	for c.until == 0 || c.next <= c.until {
		at := c.r.off
		f, state, err := c.r.next(c.size)
		if err != nil {
			return err
		}
		if state == scanFrame && c.accept(f, at) {
			continue
		}
		if state == scanFrame {
			c.r.seek(at)
		}
		more, err := c.damage(at, state)
		if err != nil {
			return err
		}
		if !more {
			return c.explain()
		}
	}
	c.end = c.r.off
	return c.explain()
}

// explain reads what the gaps say about themselves.
func (c *checker) explain() error {
	for i := range c.gaps {
		g := &c.gaps[i]
		var b [frameHead + noteSize]byte
		n, err := c.file.ReadAt(b[:], g.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		f, _ := parseHead(b[:])
		g.Unsynced = n == len(b) && f.length >= noteSize && binary.LittleEndian.Uint32(b[frameHead:]) == noteOf(c.seg.seed, b[:frameHead])
	}
	return nil
}

// accept takes a valid frame; false when its index cannot be.
func (c *checker) accept(f frame, at int64) bool {
	switch f.typ {
	case frameEntry:
		if f.index != c.next {
			if f.index < c.next || f.index > c.reach {
				return false
			}
			c.damaged[len(c.damaged)-1].Last = f.index - 1
		}
		c.reach = 0
		c.next = f.index + 1
		c.seg.note(f.index, at)
	case frameMark:
		if f.index >= c.next {
			if f.index > c.reach {
				return false
			}
			c.damaged[len(c.damaged)-1].Last = f.index
			c.next = f.index + 1
		}
		c.synced = max(c.synced, f.index)
	case frameGap:
		if f.index+1 < c.next || (c.until != 0 && f.index > c.until) || c.r.off > max(c.size, at+frameHead) {
			return false
		}
		if f.index >= c.next {
			c.gaps = append(c.gaps, Gap{File: c.seg.name, Offset: at, First: c.next, Last: f.index})
		}
		c.reach = 0
		c.next = f.index + 1
	}
	return true
}

// damage deals with what is no acceptable frame at an offset. more says that
// valid frames follow.
func (c *checker) damage(at int64, state scanState) (more bool, err error) {
	data, err := lastByte(c.file, min(at, c.size), c.size)
	if err != nil {
		return false, err
	}
	c.end = at
	if data <= at && state != scanBad && state != scanFrame {
		// Clean end. In a segment that has successors it comes too early.
		if c.until != 0 {
			c.lost(at, 0, c.until)
			c.end = at + frameHead
		}
		return false, nil
	}
	data = max(data, at)
	pos, _, ok, err := findFrame(c.file, c.seg.seed, at, data, c.size, c.next)
	if err != nil && !errors.Is(err, errTooOdd) {
		return false, err
	}
	switch {
	case ok:
		c.lost(at, pos-at, c.next-1)
		c.reach = c.next + uint64((pos-at)/frameHead)
		c.r.seek(pos)
		return true, nil
	case c.until != 0 || errors.Is(err, errTooOdd):
		// Nobody knows how many entries: skip all that could have fitted.
		last := c.until
		if last == 0 {
			last = c.next + uint64(data-at)/frameHead
		}
		c.lost(at, data-at, last)
		c.end = at + max(data-at, frameHead)
	default:
		c.torn = &Torn{File: c.seg.name, Offset: at, Bytes: data - at, Index: c.next}
	}
	return false, nil
}

func (c *checker) lost(at, n int64, last uint64) {
	c.damaged = append(c.damaged, Damage{
		File: c.seg.name, Offset: at, Bytes: n, First: c.next, Last: last, Err: ErrChecksum,
	})
	c.next = max(c.next, last+1)
}
