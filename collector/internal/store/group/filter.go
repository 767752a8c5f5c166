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

// A filter says which values the events of some groups have, which short texts are in these values, and which serials the events have. So a search
// asks it before it opens the groups. Values and texts are in a Bloom filter whose bits for one lie together, a byte and a half each: of one that is
// there it always says so, of one in a hundred that is not there, too. Each page of it has a checksum, so that a look reads one page and damage hides nothing.
const (
	filterMagic    = "AFFILT\x00"
	oldFilter      = 1  // the version with neither texts nor serials
	filterVersion  = 2  // behind the magic
	filterHead     = 32 // magic and version, bytes of a set of fields, pages, checksum, lengths of texts, bytes of serials; the sets of fields are behind it
	filterSumAt    = 16
	filterTextsAt  = 20 // to filterSerialAt: a byte a length, zeros behind the last
	filterSerialAt = 28

	filterBits  = 12 // a value
	filterBlock = 32 // bytes that a value's bits are in
	filterPage  = 4096
	pageBlocks  = (filterPage - 4) / filterBlock

	// mostLooks is how many texts of a condition are looked for: each look reads a page.
	mostLooks = 64
)

// Filter answers for the groups that a FilterBuilder was given. It is used no longer than its bytes, by any number of goroutines.
type Filter struct {
	fields  []byte   // of whose values all are there, a bit each
	sizes   []byte   // lengths of texts, in bytes, ascending
	texts   [][]byte // by these: the fields of whose values all texts are there
	pages   int
	all     []byte
	serials []byte // nil: nothing is known
}

// OpenFilter reads a filter's head. Errors: store.ErrNotOurs, store.ErrVersion, store.ErrDamaged.
func OpenFilter(b []byte) (*Filter, error) {
	if len(b) < filterHead || string(b[:len(filterMagic)]) != filterMagic {
		return nil, damagedAs(store.ErrNotOurs, "no filter begins here")
	}
	if v := b[len(filterMagic)]; v < oldFilter || v > filterVersion {
		return nil, damagedAs(store.ErrVersion, "filter version %d, this program reads %d to %d", v, oldFilter, filterVersion)
	}
	set, pages, serials := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:])), uint64(binary.LittleEndian.Uint32(b[filterSerialAt:]))
	sizes := b[filterTextsAt:filterSerialAt]
	if n := slices.Index(sizes, 0); n >= 0 {
		sizes = sizes[:n]
	}
	head := (filterHead + set*uint64(1+len(sizes)) + 7) &^ 7
	if head > uint64(len(b)) || uint64(len(b))-head != pages*filterPage+serials {
		return nil, damaged("a filter of %d pages and %d bytes of serials in %d bytes", pages, serials, len(b))
	}
	if filterSum(b, int(head)) != binary.LittleEndian.Uint32(b[filterSumAt:]) {
		return nil, damaged("checksum of a filter's head")
	}
	f := &Filter{sizes: sizes, pages: int(pages), all: b[head : head+pages*filterPage]}
	at := b[filterHead:]
	f.fields, at = at[:set], at[set:]
	for range sizes {
		f.texts, at = append(f.texts, at[:set]), at[set:]
	}
	if serials > 0 {
		f.serials = b[uint64(len(b))-serials:]
	}
	return f, nil
}

// filterSum is the checksum of all before the pages, without itself.
func filterSum(b []byte, head int) uint32 {
	return crc32.Update(crc32.Checksum(b[:filterSumAt], castagnoli), castagnoli, b[filterSumAt+4:head])
}

// valueSeed is the seed of hashes of a field's values, textSeed that of texts of so many bytes that are in them.
func valueSeed(f query.Field) uint64 { return uint64(f) }

func textSeed(f query.Field, size int) uint64 { return uint64(size)<<8 | uint64(f) }

func filterHash(seed uint64, b []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.Write(b)
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

func hasField(set []byte, f query.Field) bool {
	return int(f/8) < len(set) && set[f/8]&(1<<(f%8)) != 0
}

// may reports whether something with that hash may be there; also where a page is damaged.
func (f *Filter) may(h uint64) bool {
	page, at := filterPlace(f.all, f.pages, h)
	for i, bit := range filterMask(h) {
		if binary.LittleEndian.Uint32(page[at+4*i:])&bit == 0 {
			return !soundPage(page)
		}
	}
	return true
}

func soundPage(page []byte) bool {
	return crc32.Checksum(page[:filterPage-4], castagnoli) == binary.LittleEndian.Uint32(page[filterPage-4:])
}

// MayHave reports whether an event may have the value in the field. It is true also where the filter cannot tell: its groups are older than the
// field, or a page is damaged.
func (f *Filter) MayHave(field query.Field, value string) bool {
	return f.pages == 0 || !hasField(f.fields, field) || f.may(filterHash(valueSeed(field), []byte(value)))
}

// MayContain reports whether an event may have a value in the field that contains part; likewise.
func (f *Filter) MayContain(field query.Field, part string) bool {
	if f.pages == 0 {
		return true
	}
	for i := len(f.sizes) - 1; i >= 0; i-- {
		size := int(f.sizes[i])
		if size > len(part) || !hasField(f.texts[i], field) {
			continue
		}
		looks := 0 // longer texts say whatever shorter ones do
		for text := range textsOf([]byte(part), size, 0) {
			if !f.may(filterHash(textSeed(field, size), text)) {
				return false
			}
			if looks++; looks == mostLooks {
				break
			}
		}
		return true
	}
	return true
}

// MayHaveSerial reports whether an event may have the serial; likewise.
func (f *Filter) MayHaveSerial(serial uint64) bool {
	return f.serials == nil || mayHaveSerial(f.serials, serial)
}

// May reports whether an event may be what a query asks for; conds are the query's. A condition that lists its values is met by no event where the filter
// has none of them, and so is one all of whose values contain a text that no value has.
func (f *Filter) May(q *query.Query, conds store.Conditions) bool {
	if q.HasSerial && !f.MayHaveSerial(q.Serial) {
		return false
	}
	for i := range conds {
		c := &conds[i]
		if c.Exact == nil && c.Part == "" {
			continue
		}
		if !slices.ContainsFunc(c.Fields, func(field query.Field) bool {
			if c.Exact == nil {
				return f.MayContain(field, c.Part)
			}
			return slices.ContainsFunc(c.Exact, func(v string) bool { return f.MayHave(field, v) })
		}) {
			return false
		}
	}
	return true
}
