package group

import (
	"slices"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Check returns an error where a page of the filter or its serials are not as they were written: a search then takes all for there. Error: store.ErrDamaged.
func (f *Filter) Check() error {
	for i := range f.pages {
		if !soundPage(f.all[i*filterPage : (i+1)*filterPage]) {
			return damaged("checksum of page %d of a filter", i)
		}
	}
	if f.serials != nil && !soundSerials(f.serials) {
		return damaged("checksum of a filter's serials")
	}
	return nil
}

// Covers returns an error where the filter hides what the group has: a value, a text in one, or a block's first or last serial. Error: store.ErrDamaged.
func (f *Filter) Covers(g *Group) error {
	for field := range query.Field(query.NumIndexed) {
		d, err := g.dict(field)
		if err != nil || d == nil {
			continue // Verify says so
		}
		var v []byte
		if err := d.each(func(x *dict, i int) error {
			before := v
			v = slices.Clone(x.value(i))
			if !f.MayHave(field, string(v)) || !f.mayHaveTexts(field, v, sharedWith(v, before)) {
				return damaged("the filter hides %.80q of field %s", v, field)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for i := range g.numBlocks() {
		blk, _ := rawBlock(g.blocks[i*blockSize:])
		for _, serial := range [...]uint64{blk.MinSerial, blk.MaxSerial} {
			if !f.MayHaveSerial(serial) {
				return damaged("the filter hides serial %d", serial)
			}
		}
	}
	return nil
}

// mayHaveTexts reports whether all texts of a value may be there, but for those in its first bytes.
func (f *Filter) mayHaveTexts(field query.Field, v []byte, but int) bool {
	for i, size := range f.sizes {
		if f.pages == 0 || !hasField(f.texts[i], field) {
			continue
		}
		for text := range textsOf(v, int(size), but) {
			if !f.may(filterHash(textSeed(field, int(size)), text)) {
				return false
			}
		}
	}
	return true
}
