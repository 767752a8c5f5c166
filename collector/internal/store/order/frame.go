package order

import (
	"fmt"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// Bounds of what is unpacked: as for any message, and for a group's templates.
const (
	maxFrame     = 64 << 20
	maxTemplates = 4 << 20
)

// Reads is the newest version of groups whose frames a Frame can be of.
const Reads = group.Version

// Templates are those of a group. Any number of goroutines may use them.
type Templates struct {
	Bytes []byte
	once  sync.Once
	t     *group.Templates
	err   error
}

func (t *Templates) read(c *group.Codec) (*group.Templates, error) {
	if t == nil {
		return nil, nil //nolint:nilnil // it needs none
	}
	t.once.Do(func() { t.t, t.err = c.ReadTemplates(t.Bytes) })
	return t.t, t.err
}

// Frame is a frame as it is stored, in which several blocks may lie. Any number of goroutines may use it.
type Frame struct {
	Stored    group.Stored
	Templates *Templates // nil: it needs none

	mu   sync.Mutex // guards all below
	uses int        // blocks that are still to be read
	text *text      // nil: it is not unpacked, or not kept
}

// unpack returns the frame's text, which is nobody's to change, and the caller's to release; it is kept while other blocks of it are to be read.
func (f *Frame) unpack(c *group.Codec) (*text, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.text
	if x == nil {
		t, err := f.Templates.read(c)
		if err != nil {
			return nil, err
		}
		x = newText()
		if x.b, err = c.Unpack(x.b, &f.Stored, t); err != nil {
			return nil, err
		}
		f.text = x
	}
	x.hold()
	if f.uses--; f.uses <= 0 {
		f.text = nil
		x.release()
	}
	return x, nil
}

// use notes that a block of the frame is to be read.
func (f *Frame) use() {
	f.mu.Lock()
	f.uses++
	f.mu.Unlock()
}

func newCodec() (*group.Codec, error) {
	c, err := group.NewReader(0, maxFrame, maxTemplates)
	if err != nil {
		return nil, fmt.Errorf("unpack what is stored: %w", err)
	}
	return c, nil
}

// cut returns a block's text of its frame's.
func cut(b *store.PieceBlock, frame []byte) ([]byte, error) { return group.Cut(frame, b.Off, b.Len) }
