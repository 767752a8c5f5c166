package lines

import (
	"bytes"
	"fmt"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
)

// chunkSize is how much is read at once, and the longest line there can be.
const chunkSize = 256 << 10

// Chunk holds consecutive records in the order in which they came. Lines and Records alias
// the chunk's memory: they are valid until the receiver gives the chunk back with
// Input.Release.
type Chunk struct {
	Lines   [][]byte        // records that came as lines, without their newlines
	Records []kernel.Record // of the binary format's version 0, without their type in words
	At      Position        // how far a followed log is read with these

	data []byte
	n    int // bytes of data that are filled
}

// Len returns the number of records.
func (c *Chunk) Len() int { return len(c.Lines) + len(c.Records) }

// splitter cuts what a source reads into records. Only its own goroutine uses it.
type splitter struct {
	decode func(c *Chunk) (used int, err error) // nil until the format is known
	frame  binaryFormat
	skip   bool  // within a line that is too long
	offset int64 // of the source's byte stream, where the chunk begins
	bad    func(offset int64, why string)
}

// split finds the whole records in c and returns how many bytes they took. The
// rest is the beginning of the next.
func (s *splitter) split(c *Chunk, atEnd bool) (used int, err error) {
	c.Lines, c.Records = c.Lines[:0], c.Records[:0]
	if s.decode == nil {
		if c.n < 8 && !atEnd {
			return 0, nil
		}
		s.decode = s.text
		if looksBinary(c.data[:c.n]) {
			s.decode = s.frame.decode
		}
	}
	used, err = s.decode(c)
	if err != nil {
		return used, fmt.Errorf("byte %d of the input: %w", s.offset+int64(used), err)
	}
	switch rest := c.n - used; {
	case !atEnd || rest == 0:
	case !s.frame.known:
		// The last line has no newline.
		if !s.skip {
			c.Lines = append(c.Lines, c.data[used:c.n])
		}
		used = c.n
	case s.frame.pad == 0:
		s.bad(s.offset+int64(used), "the input ends within a record")
	}
	s.offset += int64(used)
	return used, nil
}

// text splits lines. Empty ones are no records.
func (s *splitter) text(c *Chunk) (used int, err error) {
	for {
		i := bytes.IndexByte(c.data[used:c.n], '\n')
		if i < 0 {
			break
		}
		if i > 0 && !s.skip {
			c.Lines = append(c.Lines, c.data[used:used+i])
		}
		s.skip = false
		used += i + 1
	}
	if used == 0 && c.n == len(c.data) {
		if !s.skip {
			s.bad(s.offset, "a line longer than 262144 bytes")
		}
		s.skip = true
		return c.n, nil
	}
	return used, nil
}
