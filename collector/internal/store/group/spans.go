package group

import (
	"encoding/binary"
	"iter"
	"math/bits"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Where a field has many values, a section says of each short text in which spans of chunks it may be, so that a search for a part of
// a value unpacks few chunks. The section is a table of bits: a row for the texts of one hash, a column for each span.
const (
	spanText   = 4  // bytes of a text
	spanChunks = 4  // chunks of a span; the last one may have fewer
	leastSpans = 4  // with fewer the field has no section
	spanHead   = 16 // bytes of a text, log2 of rows, chunks of a span <2>, spans <4>, zeros
	mostRows   = 14 // log2: a span's column takes 2 KiB then
	leastRows  = 8
)

// spanTexts are the rows of the texts of one span.
type spanTexts [1 << mostRows / 64]uint64

func textRow(text []byte) uint32 {
	return binary.LittleEndian.Uint32(text) * 0x9e3779b1 >> (32 - mostRows)
}

// add adds the texts of a value, but for those in its first bytes.
func (s *spanTexts) add(v []byte, but int) {
	for at := max(0, but-spanText+1); at+spanText <= len(v); at++ {
		row := textRow(v[at:])
		s[row/64] |= 1 << (row % 64)
	}
}

// fold puts the upper half of the rows to the lower one.
func (s *spanTexts) fold(rows int) {
	for i := range rows / 2 / 64 {
		s[i] |= s[i+rows/2/64]
	}
}

// encodeSpans returns the section of a field; nil where there are few spans. Rows are folded while a third of the bits are set at most.
func encodeSpans(all []spanTexts) []byte {
	if len(all) < leastSpans {
		return nil
	}
	log := mostRows
	for ; log > leastRows; log-- {
		set := 0
		for i := range all {
			half := 1 << log / 64 / 2
			for k := range half {
				set += bits.OnesCount64(all[i][k] | all[i][k+half])
			}
		}
		if set > len(all)<<(log-1)/3 {
			break
		}
		for i := range all {
			all[i].fold(1 << log)
		}
	}
	stride := (len(all) + 7) / 8
	out := make([]byte, spanHead+stride<<log)
	out[0], out[1] = spanText, byte(log)
	binary.LittleEndian.PutUint16(out[2:], spanChunks)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(all)))
	for i := range all {
		for row := range 1 << log {
			if all[i][row/64]&(1<<(row%64)) != 0 {
				out[spanHead+row*stride+i/8] |= 1 << (i % 8)
			}
		}
	}
	return out
}

// spans is a field's section; nil where nothing is known.
type spans struct {
	chunks, n, stride int
	mask              uint32 // of a row's number
	rows              []byte
}

// spans opens the section of a field with so many chunks, of which up to version 4 there are none. Where it is damaged nothing is known: Verify says what is wrong with it.
func (g *Group) spans(f query.Field, chunks int) *spans {
	if g.version <= batchVersion || chunks == 0 {
		return nil
	}
	b, err := g.section(secSpans, byte(f))
	if err != nil || len(b) < spanHead || b[0] != spanText || b[1] > mostRows {
		return nil
	}
	s := &spans{chunks: int(binary.LittleEndian.Uint16(b[2:])), n: int(binary.LittleEndian.Uint32(b[4:])), mask: 1<<b[1] - 1, rows: b[spanHead:]}
	s.stride = (s.n + 7) / 8
	if s.chunks == 0 || s.n != (chunks+s.chunks-1)/s.chunks || len(s.rows) != s.stride<<b[1] {
		return nil
	}
	return s
}

func (s *spans) row(text []byte) []byte {
	at := int(textRow(text)&s.mask) * s.stride
	return s.rows[at : at+s.stride]
}

// having gives the chunks, of so many, that may have a value which contains part.
func (s *spans) having(part string, chunks int) iter.Seq[int] {
	return func(yield func(int) bool) {
		var may []byte
		if s != nil {
			for at := 0; at+spanText <= len(part) && at < mostLooks; at++ {
				row := s.row([]byte(part[at : at+spanText]))
				if may == nil {
					may = append(may, row...)
					continue
				}
				for i := range may {
					may[i] &= row[i]
				}
			}
		}
		for i := 0; i < chunks; i++ {
			if may != nil {
				if span := i / s.chunks; may[span/8]&(1<<(span%8)) == 0 {
					continue
				}
			}
			if !yield(i) {
				return
			}
		}
	}
}

// covers reports whether a value of the chunk, but for its first bytes, is hidden by nothing.
func (s *spans) covers(chunk int, v []byte, but int) bool {
	span := chunk / s.chunks
	for at := max(0, but-spanText+1); at+spanText <= len(v); at++ {
		if s.row(v[at:])[span/8]&(1<<(span%8)) == 0 {
			return false
		}
	}
	return true
}
