package logscan

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	xzMagic = "\xfd7zXZ\x00"
	xzEnd   = "YZ"
)

// xzReader unpacks an xz file: its streams, the blocks of each, and the index behind them.
// The decoder of a block makes as large a dictionary as it is asked to. So it gets nothing
// but a block's chunks: headers are read here only, and whatever a file says of the size of
// something, no block of it has a dictionary of more than maxWindow.
type xzReader struct {
	in  *bufio.Reader
	n   int64 // bytes read of in
	err error // that ended reading

	flags [2]byte // of the stream
	sum   hash.Hash
	sizes xzSizes // of the stream's blocks

	block  xzHeader
	begin  int64     // of the block, by n
	chunks io.Reader // of the block; nil between blocks
	size   int64     // what the block was unpacked to, so far
}

func openXZ(in io.Reader, _ bool) (io.Reader, func(), error) {
	x := &xzReader{in: bufio.NewReaderSize(in, streamBytes)}
	if err := x.stream(); err != nil {
		return nil, nil, unexpected(err)
	}
	var refused *xzRefused
	if x.err = x.next(); errors.As(x.err, &refused) && x.sizes.blocks == 0 {
		return nil, nil, x.err
	}
	return x, nothing, nil
}

// take has the decoder read of the file itself.
type take struct{ x *xzReader }

func (t take) Read(p []byte) (int, error) {
	n, err := t.x.in.Read(p)
	t.x.n += int64(n)
	return n, err
}

func (t take) ReadByte() (byte, error) {
	b, err := t.x.in.ReadByte()
	if err == nil {
		t.x.n++
	}
	return b, err
}

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.chunks == nil {
			x.err = x.next()
			continue
		}
		n, err := x.chunks.Read(p)
		x.size += int64(n)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		switch {
		case x.block.unpacked >= 0 && x.size > x.block.unpacked:
			x.err = errors.New("xz: a block is longer than it says")
		case errors.Is(err, io.EOF):
			x.err = x.endBlock()
		case err != nil:
			x.err = err
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// full reads as many bytes as b has.
func (x *xzReader) full(b []byte) error {
	n, err := io.ReadFull(x.in, b)
	x.n += int64(n)
	return err
}

// unexpected is the error of reading what must be there.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stream reads the header of a stream, and the padding before it. It returns io.EOF where
// the file ends.
func (x *xzReader) stream() error {
	var b [12]byte
	for {
		if err := x.full(b[:4]); err != nil {
			return err
		}
		if x.n == 4 || b[0]|b[1]|b[2]|b[3] != 0 {
			break
		}
	}
	if err := x.full(b[4:]); err != nil {
		return unexpected(err)
	}
	if string(b[:6]) != xzMagic {
		return errors.New("xz: no stream begins here")
	}
	if binary.LittleEndian.Uint32(b[8:]) != xzCRC(b[6:8]) {
		return errors.New("xz: checksum of a stream's header")
	}
	x.flags = [2]byte(b[6:8])
	var err error
	x.sum, err = xzSum(x.flags)
	x.sizes = newXZSizes()
	return err
}

// next reads on from between two blocks: the header of the next block, or the index and the
// stream behind it.
func (x *xzReader) next() error {
	x.begin = x.n
	size, err := take{x}.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if size == 0 {
		if err := x.index(); err != nil {
			return unexpected(err)
		}
		return x.stream()
	}
	header := make([]byte, 4*(int(size)+1))
	header[0] = size
	if err := x.full(header[1:]); err != nil {
		return unexpected(err)
	}
	if x.block, err = parseXZHeader(header); err != nil {
		return err
	}
	x.size = 0
	if x.sum != nil {
		x.sum.Reset()
	}
	x.chunks, err = lzma.Reader2Config{DictCap: int(x.block.dictionary)}.NewReader2(take{x})
	if err != nil {
		return fmt.Errorf("xz: %w", unexpected(err))
	}
	return nil
}

// endBlock reads what is behind the chunks of a block: its padding and its checksum.
func (x *xzReader) endBlock() error {
	x.chunks = nil
	length := x.n - x.begin
	packed := length - x.block.length
	if x.block.packed >= 0 && packed != x.block.packed || x.block.unpacked >= 0 && x.size != x.block.unpacked {
		return errors.New("xz: a block is not as long as it says")
	}
	if err := x.padding(packed); err != nil {
		return err
	}
	sum := 0
	if x.sum != nil {
		sum = x.sum.Size()
		said := make([]byte, sum)
		if err := x.full(said); err != nil {
			return unexpected(err)
		}
		if !bytes.Equal(said, x.sum.Sum(nil)) {
			return errors.New("xz: checksum of a block")
		}
	}
	x.sizes.add(uint64(length)+uint64(sum), uint64(x.size))
	return nil
}

// padding reads the zeros behind so many bytes, up to a multiple of four.
func (x *xzReader) padding(behind int64) error {
	var b [3]byte
	zeros := b[:-behind&3]
	if err := x.full(zeros); err != nil {
		return unexpected(err)
	}
	if b != [3]byte{} {
		return errors.New("xz: padding that is not zero")
	}
	return nil
}

// index reads the index behind its first byte, which is 0, and the end of the stream.
func (x *xzReader) index() error {
	said, sum := newXZSizes(), newXZSum([]byte{0})
	number := func() (uint64, error) {
		return xzNumber(func() (byte, error) { b, err := take{x}.ReadByte(); sum.add(b); return b, err })
	}
	blocks, err := number()
	if err != nil {
		return err
	}
	if blocks != x.sizes.blocks {
		return fmt.Errorf("xz: an index of %d blocks, there are %d", blocks, x.sizes.blocks)
	}
	for range blocks {
		length, err := number()
		if err != nil {
			return err
		}
		unpacked, err := number()
		if err != nil {
			return err
		}
		said.add(length, unpacked)
	}
	if !said.equal(&x.sizes) {
		return errors.New("xz: the index does not have the sizes of the blocks")
	}
	length := x.n - x.begin
	if err := x.padding(length); err != nil {
		return err
	}
	for range -length & 3 {
		sum.add(0)
	}
	var b [4 + 12]byte // its checksum, then the end of the stream: checksum, size of the index, flags, magic
	if err := x.full(b[:]); err != nil {
		return err
	}
	footer := b[4:]
	switch {
	case binary.LittleEndian.Uint32(b[:]) != sum.crc:
		return errors.New("xz: checksum of an index")
	case binary.LittleEndian.Uint32(footer) != xzCRC(footer[4:10]) || string(footer[10:]) != xzEnd:
		return errors.New("xz: the end of a stream is damaged")
	case 4*(int64(binary.LittleEndian.Uint32(footer[4:]))+1) != x.n-12-x.begin || [2]byte(footer[8:]) != x.flags:
		return errors.New("xz: the end of a stream is not that of its begin")
	}
	return nil
}
