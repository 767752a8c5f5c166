package group

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A filter says which values the events of some groups have, in a byte and a half each: of one that is there it always says so, of one
// in a hundred that is not there, too. So a search asks it before it opens the groups. It is a Bloom filter whose bits for a value lie
// together; each page of it has a checksum, so that a look reads one page and damage hides nothing.
const (
	filterMagic = "AFFILT\x00\x01"
	filterHead  = 32 // magic, version of the groups, fields, pages, checksum; the fields are behind it

	filterBits  = 12 // a value
	filterBlock = 32 // bytes that a value's bits are in
	filterPage  = 4096
	pageBlocks  = (filterPage - 4) / filterBlock
)

// FilterBuilder makes a filter. It takes 8 bytes a value. The zero value is ready.
type FilterBuilder struct {
	hashes []uint64
	fields [(query.NumIndexed + 7) / 8]byte // that all groups have been asked for
	begun  bool
	old    bool // a group is of a version that has not all values
}

// Add adds the values of a group. Error: store.ErrDamaged.
func (w *FilterBuilder) Add(g *Group) error {
	w.old = w.old || g.version < readVersion
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
		if err := d.each(func(x *dict, i int) error {
			w.hashes = append(w.hashes, filterHash(f, x.value(i)))
			return nil
		}); err != nil {
			return err
		}
	}
	w.begun = true
	return nil
}

// Bytes returns the filter. Nothing can be added afterwards.
func (w *FilterBuilder) Bytes() []byte {
	slices.Sort(w.hashes)
	w.hashes = slices.Compact(w.hashes)
	pages := max(1, (len(w.hashes)*filterBits/8/filterBlock+pageBlocks)/pageBlocks)
	if w.old || !w.begun {
		pages = 0 // it knows nothing
	}
	head := (filterHead + len(w.fields) + 7) &^ 7
	out := make([]byte, head+pages*filterPage)
	copy(out, filterMagic)
	binary.LittleEndian.PutUint32(out[8:], uint32(len(w.fields)))
	binary.LittleEndian.PutUint32(out[12:], uint32(pages))
	copy(out[filterHead:], w.fields[:])
	for _, h := range w.hashes {
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
	binary.LittleEndian.PutUint32(out[16:], filterSum(out, head))
	w.hashes = nil
	return out
}

// filterSum is the checksum of all before the pages, without itself.
func filterSum(b []byte, head int) uint32 {
	return crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, b[20:head])
}

func filterHash(f query.Field, value []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(f))
	_, _ = d.Write(value)
	return d.Sum64()
}

// filterPlace returns the page with a value's bits, and where in it they begin.
func filterPlace(all []byte, pages int, h uint64) (page []byte, at int) {
	block, _ := bits.Mul64(h, uint64(pages*pageBlocks)) // the upper bits of h, spread over all blocks
	i := int(block) / pageBlocks * filterPage
	return all[i : i+filterPage], int(block) % pageBlocks * filterBlock
}

// filterMask returns a value's bits, one in each of eight words.
func filterMask(h uint64) (out [8]uint32) {
	for i, salt := range [8]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31} {
		out[i] = 1 << (uint32(h) * salt >> 27)
	}
	return out
}

// Filter answers for the groups that a FilterBuilder was given. It is used no longer than its bytes, by any number of goroutines.
type Filter struct {
	fields []byte
	pages  int
	all    []byte
}

// OpenFilter reads a filter's head. Errors: store.ErrNotOurs, store.ErrDamaged.
func OpenFilter(b []byte) (*Filter, error) {
	if len(b) < filterHead || string(b[:len(filterMagic)]) != filterMagic {
		return nil, damagedAs(store.ErrNotOurs, "no filter begins here")
	}
	fields, pages := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	head := (filterHead + fields + 7) &^ 7
	if head > uint64(len(b)) || uint64(len(b))-head != pages*filterPage {
		return nil, damaged("a filter of %d pages in %d bytes", pages, len(b))
	}
	if filterSum(b, int(head)) != binary.LittleEndian.Uint32(b[16:]) {
		return nil, damaged("checksum of a filter's head")
	}
	return &Filter{fields: b[filterHead : filterHead+fields], pages: int(pages), all: b[head:]}, nil
}

// MayHave reports whether an event may have the value in the field. It is true also where the filter cannot tell: its groups are older than the
// field, or a page is damaged.
func (f *Filter) MayHave(field query.Field, value string) bool {
	if f.pages == 0 || int(field/8) >= len(f.fields) || f.fields[field/8]&(1<<(field%8)) == 0 {
		return true
	}
	h := filterHash(field, []byte(value))
	page, at := filterPlace(f.all, f.pages, h)
	if crc32.Checksum(page[:filterPage-4], castagnoli) != binary.LittleEndian.Uint32(page[filterPage-4:]) {
		return true
	}
	for i, bit := range filterMask(h) {
		if binary.LittleEndian.Uint32(page[at+4*i:])&bit == 0 {
			return false
		}
	}
	return true
}

// May reports whether an event may meet all conditions: one that lists its values is met by none where the filter has none of them.
func (f *Filter) May(conds store.Conditions) bool {
	for i := range conds {
		c := &conds[i]
		if c.Exact == nil {
			continue
		}
		if !slices.ContainsFunc(c.Exact, func(v string) bool {
			return slices.ContainsFunc(c.Fields, func(field query.Field) bool { return f.MayHave(field, v) })
		}) {
			return false
		}
	}
	return true
}
