package order

import (
	"fmt"
	"sync"

	"github.com/auditfleet/auditfleet/collector/internal/store/group"
)

// maxFrame bounds what is unpacked, as any message.
const maxFrame = 64 << 20

// MaxTemplates bounds the templates of a group, packed or not.
const MaxTemplates = 4 << 20

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

// Frame is a frame as it is stored.
type Frame struct {
	group.Stored
	Templates *Templates // nil: it needs none
}

// unpack returns the frame's text, which the caller releases.
func (f *Frame) unpack(c *group.Codec) (*text, error) {
	t, err := f.Templates.read(c)
	if err != nil {
		return nil, err
	}
	x := newText()
	if x.b, err = c.Unpack(x.b, &f.Stored, t); err != nil {
		return nil, err
	}
	return x, nil
}

func newCodec() (*group.Codec, error) {
	c, err := group.NewReader(0, maxFrame, MaxTemplates)
	if err != nil {
		return nil, fmt.Errorf("unpack what is stored: %w", err)
	}
	return c, nil
}
