package logscan

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

const xzMagic = "\xfd7zXZ\x00"

func openXZ(in io.Reader, _ bool) (io.Reader, func(), error) {
	g := &xzGuard{r: in, part: xzStream, want: 4}
	b := bufio.NewReaderSize(g, streamBytes)
	_, _ = b.Peek(64) // has the guard see the first block, if the file has one: reading it will say
	if g.refused != nil && g.blocks == 0 {
		return nil, nil, g.refused
	}
	r, err := xz.NewReader(b)
	if err != nil {
		return nil, nil, err
	}
	return r, nothing, nil
}

// xzGuard passes on an xz file as long as no block of it asks for a dictionary that is too
// large: the decoder makes it as large as it is asked to. It walks over the file's parts by
// their sizes, and unpacks nothing.
type xzGuard struct {
	r       io.Reader
	refused error // of a block
	err     error // of r
	part    xzPart
	blocks  int // whose header was taken

	skip  int64  // bytes that say nothing
	have  []byte // of the part that is being looked at
	want  int    // its size
	check int64  // the size of a block's checksum
	block int64  // compressed bytes of the block
	left  uint64 // numbers of the index that follow
	index int64  // bytes of the index
	shift int    // of the number that is read
	count uint64 // that number
}

var errFilters = errors.New("xz with filters, which are not read: unpack it first, as unxz does")

// xzPart is where in a file a guard is.
type xzPart uint8

const (
	xzStream xzPart = iota // at a stream's header, or padding before it
	xzFlags                // in it, behind its first four bytes
	xzBlock                // at the size of a block's header; 0 is the index
	xzHeader               // in that header
	xzChunk                // at a chunk's first byte
	xzSizes                // in its header
	xzCount                // in the number of the index's records
	xzIndex                // in their sizes
	xzLost                 // what stands here no decoder takes
)

// xzChecks are the sizes of the kinds of checksums.
var xzChecks = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

func (g *xzGuard) Read(p []byte) (int, error) {
	if err := cmp.Or(g.refused, g.err); err != nil {
		return 0, err
	}
	n, err := g.r.Read(p)
	for at := 0; at < n; {
		switch {
		case g.part == xzLost:
			at = n
		case g.skip > 0:
			m := min(g.skip, int64(n-at))
			at += int(m)
			g.skip -= m
		default:
			m := min(g.want-len(g.have), n-at)
			g.have = append(g.have, p[at:at+m]...)
			at += m
			if len(g.have) < g.want {
				continue
			}
			if g.refused = g.step(); g.refused != nil {
				return at - m, nil //nolint:nilerr // the next Read returns it: the decoder gets what stands before the end of that header
			}
		}
	}
	g.err = err
	return n, err
}

// to goes on with a part, whose first bytes may be there.
func (g *xzGuard) to(part xzPart, want int, have ...byte) {
	g.part, g.want, g.have = part, want, append(g.have[:0], have...)
}

// step looks at a part that is whole.
func (g *xzGuard) step() error {
	switch b := g.have; g.part {
	case xzStream:
		if string(b) == "\x00\x00\x00\x00" {
			g.to(xzStream, 4)
			return nil
		}
		g.to(xzFlags, 8)
	case xzFlags:
		g.check = xzChecks[b[3]&0xf]
		g.to(xzBlock, 1)
	case xzBlock:
		if b[0] == 0 {
			g.index, g.shift, g.count = 1, 0, 0
			g.to(xzCount, 1)
			return nil
		}
		g.block = 0
		g.to(xzHeader, 4*(int(b[0])+1), b[0])
	case xzHeader:
		dict, ok := xzDictionary(b)
		switch {
		case !ok:
			return errFilters
		case dict > maxWindow:
			return fmt.Errorf("xz with a dictionary of %d MiB, %d is the most: unpack it first", dict>>20, maxWindow>>20)
		}
		g.blocks++
		g.to(xzChunk, 1)
	case xzChunk:
		g.chunk(b[0])
	case xzSizes:
		size := int64(binary.BigEndian.Uint16(b[1:])) + 1
		if b[0] >= 0x80 {
			size = int64(binary.BigEndian.Uint16(b[3:])) + 1
		}
		g.skip, g.block = size, g.block+int64(len(b))+size
		g.to(xzChunk, 1)
	case xzCount, xzIndex:
		g.number(b[0])
	}
	return nil
}

// chunk takes the first byte of a chunk of LZMA2.
func (g *xzGuard) chunk(control byte) {
	switch {
	case control == 0: // none follows
		g.block++
		g.skip = -g.block&3 + g.check
		g.to(xzBlock, 1)
	case control >= 0xc0:
		g.to(xzSizes, 6, control)
	case control >= 0x80:
		g.to(xzSizes, 5, control)
	case control <= 2:
		g.to(xzSizes, 3, control)
	default:
		g.part = xzLost
	}
}

// number takes the next byte of the index's numbers, each of bytes of seven bits.
func (g *xzGuard) number(b byte) {
	g.index++
	g.have = g.have[:0]
	g.count |= uint64(b&0x7f) << g.shift
	if g.shift += 7; b&0x80 != 0 {
		if g.shift >= 63 {
			g.part = xzLost
		}
		return
	}
	if g.left--; g.part == xzCount {
		g.part, g.left = xzIndex, 2*g.count
	}
	g.shift, g.count = 0, 0
	if g.left == 0 {
		g.skip = -g.index&3 + 4 + 12 // padding, checksum, footer
		g.to(xzStream, 4)
	}
}

// xzDictionary returns the size of the dictionary that the header of a block asks for; false
// where the block is not packed with LZMA2 alone.
func xzDictionary(header []byte) (size int64, ok bool) {
	if len(header) < 2 || header[1]&3 != 0 { // the number of filters, less one
		return 0, false
	}
	at := 2
	for flags := header[1] & 0xc0; flags != 0; flags <<= 1 { // sizes, in bytes of seven bits
		if flags&0x80 == 0 {
			continue
		}
		for at < len(header) && header[at]&0x80 != 0 {
			at++
		}
		at++
	}
	// LZMA2, one byte of properties.
	if at+2 >= len(header) || header[at] != 0x21 || header[at+1] != 1 || header[at+2] > 40 {
		return 0, false
	}
	bits := header[at+2]
	return int64(2|bits&1) << (bits/2 + 11), true
}
