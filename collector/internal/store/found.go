package store

import (
	"bytes"
	"context"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Found is an event of an answer as it lies in a block or a table: of its text nothing is
// parsed but its key.
type Found struct {
	query.Key
	Batch uint64
	// Host is whose the event is, "" for the host of mixed nodes. Text and Counted are the
	// event's as CutText returns them.
	Host    string
	Text    []byte
	Counted bool
	Origin
}

// TextScanner is a Snapshot that gives events as text.
type TextScanner interface {
	// ScanText is Scan with the events as Found, which fn may keep the bytes of, but not the Found.
	ScanText(ctx context.Context, q *query.Query, fn func(*Found) error) error
}

// ScanText scans a snapshot for text. One that gives only events is scanned for these.
func ScanText(ctx context.Context, snap Snapshot, q *query.Query, fn func(*Found) error) error {
	if s, ok := snap.(TextScanner); ok {
		return s.ScanText(ctx, q, fn)
	}
	return snap.Scan(ctx, q, func(ev *event.Event) error {
		f := FoundOf(ev)
		return fn(&f)
	})
}

// FoundOf returns an event as text, of which it makes a copy.
func FoundOf(ev *event.Event) Found {
	f := Found{Key: query.KeyOf(ev), Batch: ev.Batch, Host: string(ev.Node), Origin: OriginOf(ev)}
	f.Text, f.Counted = AppendText(nil, ev)
	return f
}

// Texts implements query.Texts.
type Texts struct {
	List []Found
	host []byte // of the event that was parsed last
}

// Len implements query.Texts.
func (t *Texts) Len() int { return len(t.List) }

// Found returns the events, valid once Open was called and until Done is.
func (t *Texts) Found() []Found { return t.List }

// Open implements query.Texts.
func (*Texts) Open() error { return nil }

// Done implements query.Texts.
func (*Texts) Done() {}

// Event implements query.Texts.
func (t *Texts) Event(i int, ev *event.Event) {
	f := &t.List[i]
	if string(t.host) != f.Host {
		t.host = []byte(f.Host) // a new one: the event before may be in use
	}
	ParseInto(ev, f.Text, f.Counted, t.host, f.Origin)
	ev.Batch = f.Batch
}

// AppendRaw implements query.Texts.
func (t *Texts) AppendRaw(dst []byte, i int) []byte { return t.List[i].AppendRaw(dst) }

// AppendRaw appends the records as they were sent, each with a newline behind it.
func (f *Found) AppendRaw(dst []byte) []byte {
	if !f.Counted {
		return append(dst, bytes.TrimSuffix(f.Text, []byte{'\n'})...)
	}
	records(f.Text, true, func(raw []byte) {
		dst = append(append(dst, raw...), '\n')
	})
	return dst
}
