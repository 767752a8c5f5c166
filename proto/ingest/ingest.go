// Package ingest is the codec of the records in a batch of the Ingest service (FORMAT.md,
// and proto/fleet/ingest.proto for what is around them). Both ends import it; it imports
// nothing of ours.
package ingest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Version is the protocol's.
const Version = 1

const (
	// HeadLen is how many bytes lie before the text of each record.
	HeadLen = 3
	// MaxText is the longest text of a record.
	MaxText = 60 << 10
	// MaxBatch is the most bytes of a batch that is not compressed.
	MaxBatch = 128 << 10
	// MaxSkipped is how many offsets without a record may lie before one in a batch, and
	// MaxLead before the first one.
	MaxSkipped = 1<<skipBits - 1
	MaxLead    = 1 << 30
	// MaxMessage is more than any message of the service takes.
	MaxMessage = MaxBatch + 64<<10

	lengthBits = 17
	skipBits   = 7
)

// ErrBatch is returned for bytes that are no batch's records.
var ErrBatch = errors.New("malformed batch")

// PutHead writes what lies before a record's text: its length, MaxText at most, and how
// many offsets before it have no record, MaxSkipped at most.
func PutHead(dst []byte, length, skipped int) {
	v := uint32(length) | uint32(skipped)<<lengthBits
	dst[0], dst[1], dst[2] = byte(v), byte(v>>8), byte(v>>16)
}

// Packer compresses. It belongs to one goroutine.
type Packer struct{ enc *zstd.Encoder }

// NewPacker returns a Packer, which takes some 1 MiB of memory once it is used.
func NewPacker() (*Packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxBatch), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("make a compressor: %w", err)
	}
	return &Packer{enc}, nil
}

// Pack appends records, each with its head, to dst as one frame.
func (p *Packer) Pack(dst, records []byte) []byte { return p.enc.EncodeAll(records, dst) }

// decoder is shared by all: it has no state between calls, and allows for a few at once.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxBatch), zstd.WithDecoderMaxWindow(MaxBatch), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(true))
})

// Size returns how many bytes a frame says that it unpacks to: MaxBatch at most.
func Size(frame []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return 0, fmt.Errorf("%w: no zstd frame: %w", ErrBatch, err)
	}
	switch {
	case h.Skippable, !h.HasFCS:
		return 0, fmt.Errorf("%w: a frame that does not say its size", ErrBatch)
	case h.FrameContentSize == 0 || h.FrameContentSize > MaxBatch:
		return 0, fmt.Errorf("%w: %d bytes, %d is the most", ErrBatch, h.FrameContentSize, MaxBatch)
	}
	return int(h.FrameContentSize), nil
}

// Unpack unpacks a frame into memory of its own, which is size bytes, as Size gave it. What
// does not unpack to just that is an error; no more memory is taken for it.
func Unpack(frame []byte, size int) ([]byte, error) {
	dec, err := decoder()
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	out, err := dec.DecodeAll(frame, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	if len(out) != size {
		return nil, fmt.Errorf("%w: %d bytes that said to be %d", ErrBatch, len(out), size)
	}
	return out, nil
}

// Next cuts a record off the front: how many offsets before it have no record, its text,
// and what is behind it. The text aliases records.
func Next(records []byte) (skipped int, text, rest []byte, err error) {
	if len(records) < HeadLen {
		return 0, nil, nil, fmt.Errorf("%w: %d bytes where a record begins", ErrBatch, len(records))
	}
	v := int(records[0]) | int(records[1])<<8 | int(records[2])<<16
	n, skipped := v&(1<<lengthBits-1), v>>lengthBits
	if rest = records[HeadLen:]; n > MaxText || n > len(rest) {
		return 0, nil, nil, fmt.Errorf("%w: a record of %d bytes, there are %d", ErrBatch, n, len(rest))
	}
	return skipped, rest[:n:n], rest[n:], nil
}
