package order

import (
	"sync"
	"sync/atomic"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// text is the text of a frame. Its memory is used again once all who hold it have released it; where one of them never does, it is collected.
type text struct {
	b    []byte
	refs atomic.Int32
}

// keptText is up to what size the memory of a frame's text is used again.
const keptText = 1 << 20

var textPool = sync.Pool{New: func() any { return new(text) }}

// newText returns a text with memory to be written to, which the caller holds.
func newText() *text {
	t := textPool.Get().(*text)
	t.refs.Store(1)
	return t
}

func (t *text) hold() { t.refs.Add(1) }

func (t *text) release() {
	if t.refs.Add(-1) == 0 && cap(t.b) <= keptText {
		textPool.Put(t)
	}
}

// texts are events that are given. It implements query.Texts.
type texts struct {
	store.Texts
	held []*text // in which texts of theirs are
}

var textsPool = sync.Pool{New: func() any { return &texts{Texts: store.Texts{List: make([]store.Found, 0, giveEvents)}} }}

func newTexts() *texts { return textsPool.Get().(*texts) }

// add adds an event whose text is in t; nil: it is in memory of its own.
func (x *texts) add(f store.Found, t *text) {
	x.List = append(x.List, f)
	if n := len(x.held); t != nil && (n == 0 || x.held[n-1] != t) {
		t.hold() // again and again where hosts take turns
		x.held = append(x.held, t)
	}
}

// Done implements query.Texts.
func (x *texts) Done() {
	for _, t := range x.held {
		t.release()
	}
	clear(x.held)
	clear(x.List)
	*x = texts{Texts: store.Texts{List: x.List[:0]}, held: x.held[:0]}
	textsPool.Put(x)
}
