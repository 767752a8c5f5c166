package seglog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// folder is what a log's folder holds, by the names and headers of its files.
type folder struct {
	segments   []*segment // the log, in order of generation; first never falls
	unfinished []string   // files of segments that were being created
	replaced   []string   // segments that were given up before anything in them was durable
	dropping   []string   // segments whose deletion was interrupted
	headless   []headless
	misfits    []misfit
	gen        uint64 // the highest generation of any file
	next       uint64 // when the newest segment is headless: the first index that it cannot have used
}

// headless is a segment of which both header copies are unreadable. Without the seed its
// frames cannot be checked; its name says which entries it had.
type headless struct {
	name        string
	gen         uint64
	size        int64
	first, last uint64 // entries that it had; last is what fits in its size, or where the next segment begins
	certain     bool   // a later segment says that they were durable
	aside       bool   // an earlier Open has renamed it, and may not have come further
	err         error
}

// misfit is a file that has a segment's name and is not taken for a segment of the log; err
// is why.
type misfit struct {
	name string
	size int64
	err  error
}

// asideSuffix is added to the name of a segment whose header is lost, and, with
// what is wrong behind it, to that of a misfit.
const asideSuffix = ".corrupt"

// movedSuffix is added to the name of a segment on its way to the name that its header gives
// it.
const movedSuffix = ".moved"

// readFolder reads the names and headers of a log's files and decides what each of them is.
// It changes nothing. A folder that has other logs' segments only, and of which nothing is
// known, is refused.
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
		first, gen, ok := parseName(strings.TrimSuffix(strings.TrimSuffix(name, asideSuffix), movedSuffix))
		if !ok {
			continue
		}
		dir.gen = max(dir.gen, gen)
		if err := dir.add(o, name, first, gen); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(o.Dir, name), err)
		}
	}
	if len(dir.segments) == 0 && len(dir.headless) == 0 && len(dir.misfits) > 0 && o.Known.Newest == 0 {
		m := dir.misfits[0]
		return nil, fmt.Errorf("%s: %w: move it away if it does not belong here", filepath.Join(o.Dir, m.name), m.err)
	}
	dir.gen = max(dir.gen, o.Known.Newest)
	dir.settle()
	dir.order(o.Known)
	return dir, nil
}

// add reads the header of a file with a segment's name and puts the file into its list.
// first and gen are those of the name.
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
	case errors.Is(err, ErrMagic):
		d.misfit(name, size, fmt.Errorf("%w: %w", ErrForeign, err))
		return nil
	case err != nil:
		return err
	case h.kind != o.Kind:
		d.misfit(name, size, fmt.Errorf("%w: %w: %q, not %q", ErrForeign, ErrKind, h.kind, o.Kind))
		return nil
	case o.ID != (ID{}) && h.id != (ID{}) && h.id != o.ID:
		d.misfit(name, size, fmt.Errorf("%w: it is of the log %s, this is %s", ErrForeign, h.id, o.ID))
		return nil
	case o.ID != (ID{}) && h.id == (ID{}) && o.Known.Newest > 0 && h.gen > o.Known.Unmarked:
		d.misfit(name, size, fmt.Errorf("%w: it does not say which log it is of, and this is %s", ErrForeign, o.ID))
		return nil
	}
	d.gen = max(d.gen, h.gen)
	d.segments = append(d.segments, &segment{header: h, name: name, bad: bad, size: size})
	return nil
}

// misfit adds a misfit.
func (d *folder) misfit(name string, size int64, err error) {
	d.misfits = append(d.misfits, misfit{name, size, err})
}

// addHeadless adds a segment without a readable header.
func (d *folder) addHeadless(h headless, file fsys.File, size int64, cause error) (err error) {
	h.err = cause
	if h.size, err = lastByte(file, 0, size); err != nil {
		return err
	}
	h.last = h.first + uint64(h.size)/frameHead
	d.headless = append(d.headless, h)
	return nil
}

// misnamed reports whether a segment lies under another name than its header gives it.
func (s *segment) misnamed() bool { return s.name != segmentName(s.first, s.gen) }

// settle sorts the segments and leaves one of each generation: of two, the one whose name is
// that of its header. The others become misfits. A header counts more than a name, since it
// has a checksum.
func (d *folder) settle() {
	sort.SliceStable(d.segments, func(i, j int) bool {
		a, b := d.segments[i], d.segments[j]
		if a.gen != b.gen {
			return a.gen < b.gen
		}
		return !a.misnamed() && b.misnamed()
	})
	kept := d.segments[:0]
	for _, s := range d.segments {
		if n := len(kept); n > 0 && kept[n-1].gen == s.gen {
			err := fmt.Errorf("%w, %s", ErrContradicts, kept[n-1].name)
			if kept[n-1].header == s.header {
				err = fmt.Errorf("%w: %s", ErrDoubled, kept[n-1].name)
			}
			d.misfit(s.name, s.size, err)
			continue
		}
		kept = append(kept, s)
	}
	d.segments = d.inLine(kept)
}

// inLine leaves the longest sequence of segments in which first never falls. Segments that
// are not in it are of another history of the log, and become misfits.
func (d *folder) inLine(list []*segment) []*segment {
	if slices.IsSortedFunc(list, func(a, b *segment) int { return cmpFirst(a, b) }) {
		return list
	}
	length, before := make([]int, len(list)), make([]int, len(list))
	best := 0
	for i, s := range list {
		length[i], before[i] = 1, -1
		for j := range i {
			if list[j].first <= s.first && length[j]+1 > length[i] {
				length[i], before[i] = length[j]+1, j
			}
		}
		if length[i] >= length[best] {
			best = i
		}
	}
	in := make([]bool, len(list))
	for i := best; i >= 0; i = before[i] {
		in[i] = true
	}
	var kept []*segment
	for i, s := range list {
		if in[i] {
			kept = append(kept, s)
			continue
		}
		d.misfit(s.name, s.size, ErrContradicts)
	}
	return kept
}

// cmpFirst orders segments by their first index.
func cmpFirst(a, b *segment) int {
	switch {
	case a.first < b.first:
		return -1
	case a.first > b.first:
		return 1
	}
	return 0
}

// order decides which segment holds which entries. A segment with first index f says that
// everything below f was durable when it was made, and that what an older segment holds from
// f on was given up. So an older segment with the same f is replaced as a whole. A segment
// below known.First was deleted: its deletion was interrupted, or somebody put it back.
func (d *folder) order(known Known) {
	whole := slices.ContainsFunc(d.segments, func(s *segment) bool { return s.first == known.First })
	kept := d.segments[:0]
	for i, s := range d.segments {
		if i+1 < len(d.segments) {
			next := d.segments[i+1]
			s.skipped = next.gen > s.gen+1
			switch {
			case whole && next.first <= known.First && s.first < known.First && slices.Contains(known.Dropping, s.name):
				d.dropping = append(d.dropping, s.name)
				continue
			case whole && next.first <= known.First && s.first < known.First:
				d.misfit(s.name, s.size, ErrStale)
				continue
			case next.first == s.first:
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
}

// misfitDamage describes the misfits, and the segments under another's name, as damage that costs
// no entry. Entries that are missing because of them are found where they should be.
func (d *folder) misfitDamage() (out []Damage) {
	for _, m := range d.misfits {
		out = append(out, Damage{File: m.name, Bytes: m.size, First: 1, Certain: true, Err: m.err})
	}
	for _, s := range d.segments {
		if s.misnamed() {
			out = append(out, Damage{File: s.name, First: s.first, Last: s.first - 1, Certain: true,
				Err: fmt.Errorf("%w: %s", ErrSwapped, segmentName(s.first, s.gen))})
		}
	}
	return out
}

// asideWord returns what a misfit is, for its name once it is set aside.
func (m *misfit) asideWord() string {
	for _, k := range []struct {
		err  error
		word string
	}{{ErrDoubled, "doubled"}, {ErrStale, "stale"}} {
		if errors.Is(m.err, k.err) {
			return k.word
		}
	}
	return "foreign"
}

// setAside gives each misfit a name that is no segment's, and each segment that lies under
// another's name its own. The latter in two steps, first all to names of their own with
// movedSuffix, then each to its place: so no rename replaces a file, and a crash in between
// loses nothing.
func (d *folder) setAside(o Options, rec *Recovery) error {
	strange := d.misfitDamage()
	for i := range d.misfits {
		m := &d.misfits[i]
		base := strings.TrimSuffix(m.name, movedSuffix) + asideSuffix + "-" + m.asideWord()
		aside := base
		for n := 2; ; n++ {
			if _, err := o.FS.Size(filepath.Join(o.Dir, aside)); isNotExist(err) {
				break
			} else if err != nil {
				return err
			}
			aside = fmt.Sprintf("%s-%d", base, n)
		}
		if err := o.FS.Rename(filepath.Join(o.Dir, m.name), filepath.Join(o.Dir, aside)); err != nil {
			return err
		}
		strange[i].SetAside = aside
	}
	rec.Damaged = append(rec.Damaged, strange...)
	move := func(s *segment, name string) error {
		if s.name == name {
			return nil
		}
		if err := o.FS.Rename(filepath.Join(o.Dir, s.name), filepath.Join(o.Dir, name)); err != nil {
			return err
		}
		s.name = name
		return nil
	}
	var moved []*segment
	for _, s := range d.segments {
		if s.misnamed() {
			moved = append(moved, s)
			if err := move(s, segmentName(s.first, s.gen)+movedSuffix); err != nil {
				return err
			}
		}
	}
	if len(strange) == 0 {
		return nil
	}
	if err := o.FS.SyncDir(o.Dir); err != nil {
		return err
	}
	for _, s := range moved {
		if err := move(s, segmentName(s.first, s.gen)); err != nil {
			return err
		}
	}
	return o.FS.SyncDir(o.Dir)
}
