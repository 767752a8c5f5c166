package logscan

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// xzHeader is what the header of a block says of it.
type xzHeader struct {
	length           int64 // of the header itself
	packed, unpacked int64 // -1 where it does not say
	dictionary       int64
}

// xzRefused says that a file is whole, as far as is known, and not read.
type xzRefused struct{ why string }

func (e *xzRefused) Error() string { return e.why }

var errXZHeader = errors.New("xz: the header of a block is damaged")

// parseXZHeader reads the header of a block, which has four bytes at least.
func parseXZHeader(b []byte) (h xzHeader, err error) {
	end := len(b) - 4
	h.length = int64(len(b))
	flags, at := b[1], 2
	next := func() (byte, error) {
		if at >= end {
			return 0, errXZHeader
		}
		at++
		return b[at-1], nil
	}
	for _, size := range []struct {
		to  *int64
		bit byte
	}{{&h.packed, 0x40}, {&h.unpacked, 0x80}} {
		if *size.to = -1; flags&size.bit == 0 {
			continue
		}
		n, err := xzNumber(next)
		if err != nil || n > 1<<62 {
			return h, errXZHeader
		}
		*size.to = int64(n)
	}
	// One filter, LZMA2, with one byte of properties. It is looked at before the checksum, so that
	// who has such a file hears what is to be done with it.
	switch {
	case flags&3 != 0 || at+2 >= end || b[at] != 0x21:
		return h, &xzRefused{"xz with filters, which are not read: unpack it first, as unxz does"}
	case b[at+1] != 1 || b[at+2] > 40:
		return h, errXZHeader
	}
	bits := b[at+2]
	h.dictionary = int64(2|bits&1) << (bits/2 + 11)
	if h.dictionary > maxWindow {
		return h, &xzRefused{fmt.Sprintf("xz with a dictionary of %d MiB, %d is the most: unpack it first", h.dictionary>>20, maxWindow>>20)}
	}
	if flags&0x3c != 0 || binary.LittleEndian.Uint32(b[end:]) != xzCRC(b[:end]) {
		return h, errXZHeader
	}
	for _, zero := range b[at+3 : end] {
		if zero != 0 {
			return h, errXZHeader
		}
	}
	return h, nil
}

// xzNumber reads a number in bytes of seven bits, the lowest first.
func xzNumber(next func() (byte, error)) (n uint64, err error) {
	for shift := 0; ; shift += 7 {
		b, err := next()
		if err != nil {
			return 0, err
		}
		if n |= uint64(b&0x7f) << shift; b&0x80 == 0 {
			return n, nil
		}
		if shift == 56 { // nine bytes: 63 bits
			return 0, errors.New("xz: a number that is too long")
		}
	}
}

func xzCRC(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// runningCRC is the checksum of the bytes of an index.
type runningCRC struct{ crc uint32 }

func newXZSum(b []byte) *runningCRC { return &runningCRC{xzCRC(b)} }

func (s *runningCRC) add(b byte) { s.crc = crc32.Update(s.crc, crc32.IEEETable, []byte{b}) }

var xzCRC64 = crc64.MakeTable(crc64.ECMA)

// xzSum is the checksum of blocks; nil where a stream has none.
func xzSum(flags [2]byte) (hash.Hash, error) {
	switch flags {
	case [2]byte{0, 0}:
		return nil, nil
	case [2]byte{0, 1}:
		return &littleEndian{crc32.NewIEEE()}, nil
	case [2]byte{0, 4}:
		return &littleEndian{crc64.New(xzCRC64)}, nil
	case [2]byte{0, 10}:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("xz: a checksum of kind %d, which is not known", flags[1])
}

// littleEndian is a CRC as xz writes it, its lowest byte first.
type littleEndian struct{ hash.Hash }

func (l *littleEndian) Sum(b []byte) []byte {
	at := len(b)
	b = l.Hash.Sum(b)
	for i, k := at, len(b)-1; i < k; i, k = i+1, k-1 {
		b[i], b[k] = b[k], b[i]
	}
	return b
}

// xzSizes are the sizes of a stream's blocks, which its index repeats: how many there are,
// and the hash of all.
type xzSizes struct {
	blocks uint64
	hash   hash.Hash
}

func newXZSizes() xzSizes { return xzSizes{hash: sha256.New()} }

func (s *xzSizes) add(length, unpacked uint64) {
	s.blocks++
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], length)
	binary.LittleEndian.PutUint64(b[8:], unpacked)
	s.hash.Write(b[:])
}

func (s *xzSizes) equal(o *xzSizes) bool {
	return s.blocks == o.blocks && [sha256.Size]byte(s.hash.Sum(nil)) == [sha256.Size]byte(o.hash.Sum(nil))
}
