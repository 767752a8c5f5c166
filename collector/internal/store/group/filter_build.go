package group

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// mostTexts is how many texts of values a filter has, and half of it how many of one length of one field. They take 8 bytes each while the
	// filter is made, and so do those of one field before they are counted.
	mostTexts = 1 << 21
	// mostValues is how many values a filter has: a sender may send ever new names. While it is made there may be twice as many.
	mostValues = 1 << 24
	// textShare is how much of the records' bytes all texts of values take at most: one in so many.
	textShare = 256
)

// textSizes are the lengths of the texts of values that a filter knows, ascending, in bytes. Long ones tell more, and are more: random names have nearly
// all texts of three letters, and few of those of six.
var textSizes = [...]int{1, 2, 3, 4, 6}

// FilterBuilder makes a filter. It takes 8 bytes a value, of which a filter has none where they are more than mostValues, and as much for each text of values: of a field's texts of a length it knows all or none, and
// gives up first what is most. The zero value is ready.
type FilterBuilder struct {
	values   hashes
	texts    [query.NumIndexed][len(textSizes)]hashes
	serials  serials
	fields   fieldSet // that all groups have been asked for
	events   uint64   // of the groups, as all below
	rawBytes uint64
	begun    bool
	old      bool // a group is of a version that has not all values
	most     int  // how many values; 0: mostValues
}

// fieldSet has a bit a field.
type fieldSet [(query.NumIndexed + 7) / 8]byte

// hashes are those of some values or texts, each once after settle.
type hashes struct {
	all     []uint64
	settled int  // of all: they are sorted, and each is there once
	over    bool // there were more than most, and nothing is kept
}

// add adds one, and gives all up where there are more than most.
func (s *hashes) add(h uint64, most int) {
	if s.over {
		return
	}
	s.all = append(s.all, h)
	if len(s.all) < 4096 || len(s.all) < 2*s.settled {
		return
	}
	s.settle()
	if s.over = len(s.all) > most; s.over {
		s.all = nil
	}
}

func (s *hashes) settle() {
	slices.Sort(s.all)
	s.all = slices.Compact(s.all)
	s.settled = len(s.all)
}

// AddSerial adds the serial of an event. The filter knows serials only where it was called for each event of the groups.
func (w *FilterBuilder) AddSerial(serial uint64) { w.serials.add(serial) }

// Add adds the values of a group. Error: store.ErrDamaged.
func (w *FilterBuilder) Add(g *Group) error {
	w.old = w.old || g.version < readVersion
	w.events, w.rawBytes = w.events+g.Summary.Events, w.rawBytes+g.Summary.RawBytes
	for f := range query.Field(query.NumIndexed) {
		d, err := g.dict(f)
		if err != nil {
			return err
		}
		// A field whose dictionary is missing has no value; or it is one that the group is too old for.
		if !w.begun && !(d == nil && addedField(f)) {
			w.fields[f/8] |= 1 << (f % 8)
		} else if d == nil && addedField(f) {
			w.fields[f/8] &^= 1 << (f % 8)
		}
		if d == nil {
			continue
		}
		var prev []byte
		if err := d.each(func(x *dict, i int) error {
			w.addValue(f, x.value(i), prev)
			prev = append(prev[:0], x.value(i)...)
			return nil
		}); err != nil {
			return err
		}
		w.giveUp(mostTexts)
	}
	w.begun = true
	return nil
}

// hasTexts reports whether a filter knows the texts of the field's values: numbers are looked for whole.
func hasTexts(f query.Field) bool {
	if f.IsOther() {
		f -= query.Field(0).Other()
	}
	return int(f) < query.NumFields && !f.IsNumber()
}

// addValue adds a value, and its texts but for those in the beginning that it shares with another one, which was added before.
func (w *FilterBuilder) addValue(f query.Field, v, before []byte) {
	w.values.add(filterHash(valueSeed(f), v), cmp.Or(w.most, mostValues))
	if !hasTexts(f) {
		return
	}
	shared := sharedWith(v, before)
	for i, size := range textSizes {
		for text := range textsOf(v, size, shared) {
			w.texts[f][i].add(filterHash(textSeed(f, size), text), mostTexts/2)
		}
	}
}

// sharedWith returns how many bytes two values begin with that are the same.
func sharedWith(v, before []byte) (n int) {
	for n < len(v) && n < len(before) && v[n] == before[n] {
		n++
	}
	return n
}

// textsOf gives the texts of that size in a value, but for those in its first bytes.
func textsOf(v []byte, size, but int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for at := max(0, but-size+1); at+size <= len(v) && yield(v[at:at+size]); at++ {
		}
	}
}

// giveUp gives texts up until there are no more than most: of a field and a length all, the most first.
func (w *FilterBuilder) giveUp(most int) {
	count := func() (n int, largest *hashes) {
		for f := range w.texts {
			for i := range w.texts[f] {
				s := &w.texts[f][i]
				if n += len(s.all); largest == nil || len(s.all) > len(largest.all) {
					largest = s
				}
			}
		}
		return n, largest
	}
	n, _ := count()
	if n <= most {
		return
	}
	for f := range w.texts {
		for i := range w.texts[f] {
			w.texts[f][i].settle()
		}
	}
	for n, s := count(); n > most; n, s = count() {
		*s = hashes{over: true}
	}
}

// known returns, by textSizes, the fields whose texts the filter has, and puts the hashes of these to those of the values.
func (w *FilterBuilder) known() (sets [len(textSizes)]fieldSet) {
	share := max(w.rawBytes/textShare, filterPage) * 8 / filterBits
	w.giveUp(int(min(share, mostTexts)))
	for f := range query.Field(query.NumIndexed) {
		for i := range textSizes {
			if s := &w.texts[f][i]; hasTexts(f) && !s.over {
				sets[i][f/8] |= 1 << (f % 8) & w.fields[f/8]
				w.values.all = append(w.values.all, s.all...)
			}
		}
	}
	return sets
}

// Bytes returns the filter. Nothing can be added afterwards.
func (w *FilterBuilder) Bytes() []byte {
	sets := w.known()
	w.values.settle()
	all := w.values.all
	pages := max(1, (len(all)*filterBits/8/filterBlock+pageBlocks)/pageBlocks)
	if w.old || !w.begun || w.values.over {
		pages = 0 // it knows nothing
	}
	head := (filterHead + len(w.fields)*(1+len(textSizes)) + 7) &^ 7
	out := make([]byte, head+pages*filterPage)
	copy(out, filterMagic)
	out[len(filterMagic)] = filterVersion
	binary.LittleEndian.PutUint32(out[8:], uint32(len(w.fields)))
	binary.LittleEndian.PutUint32(out[12:], uint32(pages))
	at := out[filterHead:]
	at = at[copy(at, w.fields[:]):]
	for i, size := range textSizes {
		out[filterTextsAt+i] = byte(size)
		at = at[copy(at, sets[i][:]):]
	}
	for _, h := range all {
		if pages == 0 {
			break
		}
		page, words := filterPlace(out[head:], pages, h)
		for i, bit := range filterMask(h) {
			at := page[words+4*i:]
			binary.LittleEndian.PutUint32(at, binary.LittleEndian.Uint32(at)|bit)
		}
	}
	for i := range pages {
		page := out[head+i*filterPage : head+(i+1)*filterPage]
		binary.LittleEndian.PutUint32(page[filterPage-4:], crc32.Checksum(page[:filterPage-4], castagnoli))
	}
	if w.begun && w.serials.events == w.events {
		serials := w.serials.encode()
		binary.LittleEndian.PutUint32(out[filterSerialAt:], uint32(len(serials)))
		out = slices.Concat(out, serials)
	}
	binary.LittleEndian.PutUint32(out[filterSumAt:], filterSum(out, head))
	*w = FilterBuilder{}
	return out
}
