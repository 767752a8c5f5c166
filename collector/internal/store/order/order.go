package order

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// Events are given when so many wait, or so many bytes of them, or for so long.
	giveEvents = 1024
	giveBytes  = 256 << 10
	giveDelay  = 100 * time.Millisecond
	// aheadOf is how many pieces a processor may be received before they are needed, and mostAhead how many at most.
	aheadOf   = 8
	mostAhead = 128
	// maxHeld bounds the memory of what waits for its turn: a collector sends less than a quarter of that. Pieces that are not needed yet have as much as a quarter of it beside:
	// beyond that no more is received until some are.
	maxHeld = 1 << 30
	// maxErrors is how many errors of damaged blocks are said.
	maxErrors = 16
)

// errHeld is returned for an answer of which more has to wait for its turn than any collector sends.
var errHeld = errors.New("the collector's answer is out of its order")

// Piece is a piece as it comes.
type Piece struct {
	*store.Piece
	Frame *Frame // of its blocks; it stands for the piece's own
	Last  bool   // all of the answer has come
}

// part is a piece with what is merged of it.
type part struct {
	next  int64
	last  bool
	units []*unit
	size  int64
}

// ordering is one answer that is made.
type ordering struct {
	q      *query.Query
	heap   heap
	next   int64 // no event that comes is before
	units  int   // that came
	closed bool  // no piece comes any more
	whole  bool  // and all of the answer has come
	held   int64 // bytes of what waits for its turn
	most   int64
	parts  chan part           // in the order in which they came
	ahead  *semaphore.Weighted // bytes of them
	room   int64               // of ahead
	out    *texts              // that wait to be given
	bytes  int                 // of them
	last   time.Time
	give   func(query.Texts) error
	errs   []error
	beyond int // errors that are not said
}

// Run gives the events of an answer to give, some at a time, in order; who gets them may keep them, or calls Done. receive calls its function with the answer's
// pieces as they come, and returns what that returns. Where not all of the answer has come, all that is given is what it begins with, and Run returns receive's error. ErrStop of
// give ends the answer without an error.
func Run(ctx context.Context, q *query.Query, receive func(ctx context.Context, fn func(Piece) error) error, give func(query.Texts) error) error {
	return run(ctx, q, maxHeld, receive, give)
}

func run(ctx context.Context, q *query.Query, most int64, receive func(ctx context.Context, fn func(Piece) error) error, give func(query.Texts) error) error {
	codec, err := newCodec()
	if err != nil {
		return err
	}
	defer func() { _ = codec.Close() }() // it only reads
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	o := &ordering{q: q, heap: heap{reverse: q.Reverse}, next: math.MinInt64, most: most, room: most / 4, ahead: semaphore.NewWeighted(most / 4), parts: make(chan part, min(aheadOf*workers, mostAhead)), last: time.Now(), give: give}
	todo := make(chan *job, min(aheadOf*workers, mostAhead))
	var working sync.WaitGroup
	for range workers {
		r := reader{q: q, m: query.NewMatcher(q), codec: codec}
		working.Go(func() {
			for j := range todo {
				r.read(j)
			}
		})
	}
	received := make(chan error, 1)
	working.Go(func() {
		err := receive(ctx, func(p Piece) error { return o.take(ctx, p, todo) })
		received <- err
		if err == nil {
			select {
			case o.parts <- part{next: math.MaxInt64, last: true}:
			case <-ctx.Done():
			}
		}
		close(todo)
		close(o.parts)
	})
	if err = o.run(ctx); err == nil {
		err = ctx.Err()
	}
	cancel()
	for range o.parts { // receive ends soon
	}
	working.Wait()
	switch rerr := <-received; {
	case errors.Is(err, query.ErrStop):
		return nil
	case err != nil:
		return err
	case rerr != nil:
		return errors.Join(rerr, o.damage())
	}
	return o.damage()
}

// take takes a piece as it comes, and has its frame read.
func (o *ordering) take(ctx context.Context, p Piece, todo chan<- *job) error {
	out, size := part{next: p.Next, last: p.Last}, int64(pieceBytes)
	var j *job
	switch {
	case len(p.Blocks) > 0:
		j = &job{frame: p.Frame, left: len(p.Blocks)}
		size += int64(p.Frame.Raw) + int64(len(p.Frame.Bytes))
		for i := range p.Blocks {
			b := &p.Blocks[i]
			size += blockBytes + placeBytes*min(int64(b.Events), mostEvents)
			j.units = append(j.units, &unit{block: b, job: j, ready: make(chan struct{})})
		}
		j.size, out.units = size, j.units
	case len(p.Found) > 0:
		u := &unit{found: p.Found, list: make([]place, len(p.Found)), job: &job{left: 1}}
		for i := range p.Found {
			f := &p.Found[i]
			u.list[i] = place{ms: f.Ms, serial: f.Serial, batch: f.Batch, at: p.Places[p.At[i]], off: uint32(i)}
			size += foundBytes + int64(len(f.Text))
		}
		u.job.size, out.units = size, []*unit{u}
	}
	out.size = size
	if err := o.ahead.Acquire(ctx, min(size, o.room)); err != nil {
		return err
	}
	select {
	case o.parts <- out:
	case <-ctx.Done():
		return ctx.Err()
	}
	if j != nil {
		todo <- j // workers read it to its end
	}
	return nil
}

// placeBytes and foundBytes are about what an event takes beside its text, blockBytes what a block does, and pieceBytes a piece.
const (
	pieceBytes = 200
	blockBytes = 400
	placeBytes = 80
	foundBytes = 240
)

// run is the merge.
func (o *ordering) run(ctx context.Context) error {
	for {
		if err := o.fill(); err != nil {
			return err
		}
		if len(o.heap.list) == 0 || o.closed && !o.whole && o.heap.list[0].due >= o.next { // what would have come may go before
			return o.flush()
		}
		top := &o.heap.list[0]
		u, pos := top.u, top.pos
		if !top.event {
			if err := ctx.Err(); err != nil {
				return err
			}
			if u.ready != nil {
				<-u.ready
			}
			if u.job.err != nil {
				o.addError(u.job.err)
				u.job.err = nil // once
			}
			o.advance(u, 0)
			continue
		}
		if err := o.add(u.event(pos), u); err != nil {
			return err
		}
		o.advance(u, pos+1)
	}
}

// fill takes pieces until none that comes may have an event that goes before the heap's first.
func (o *ordering) fill() error {
	for !o.closed && (len(o.heap.list) == 0 || o.heap.list[0].due >= o.next) {
		var p part
		var more bool
		select {
		case p, more = <-o.parts:
		default:
			var err error
			if p, more, err = o.wait(); err != nil {
				return err
			}
		}
		if !more {
			o.closed = true
			return nil
		}
		o.ahead.Release(min(p.size, o.room))
		if len(p.units) > 0 {
			if o.held += p.size; o.held > o.most {
				return fmt.Errorf("%w: more than %d MiB wait", errHeld, o.most>>20)
			}
		}
		o.next, o.whole = max(o.next, p.next), o.whole || p.last
		for _, u := range p.units {
			u.number = o.units
			o.units++
			o.heap.push(item{due: o.first(u), u: u})
		}
	}
	return nil
}

// wait waits for a piece, and gives what has waited long meanwhile.
func (o *ordering) wait() (p part, more bool, err error) {
	if o.out != nil {
		late := time.NewTimer(giveDelay - time.Since(o.last))
		defer late.Stop()
		select {
		case p, more = <-o.parts:
			return p, more, nil
		case <-late.C:
			if err := o.flush(); err != nil {
				return p, false, err
			}
		}
	}
	p, more = <-o.parts
	return p, more, nil
}

// due is where on its way the answer meets a time: times are negated where the newest comes first.
func (o *ordering) due(ms int64) int64 {
	if o.q.Reverse {
		return -ms
	}
	return ms
}

// first is where the answer may meet the first event of a unit.
func (o *ordering) first(u *unit) int64 {
	switch {
	case u.block == nil:
		return o.due(u.list[0].ms)
	case o.q.Reverse:
		return -u.block.MaxMs
	}
	return u.block.MinMs
}

// advance puts the unit's event pos in the place of the heap's first item, which is the unit's; a unit that has no more is done.
func (o *ordering) advance(u *unit, pos int) {
	if pos >= len(u.list) {
		o.heap.pop()
		if u.text != nil {
			u.text.release()
		}
		if u.job.left--; u.job.left == 0 {
			o.held -= u.job.size
		}
		u.list, u.text, u.found = nil, nil, nil
		return
	}
	e := &u.list[pos]
	o.heap.list[0] = item{due: o.due(e.ms), event: true, node: u.node(pos), serial: e.serial, batch: e.batch, at: e.at, pos: pos, u: u}
	o.heap.down()
}

// add takes the answer's next event, which is of u.
func (o *ordering) add(f store.Found, u *unit) error {
	if o.out == nil {
		o.out = newTexts()
	}
	o.out.add(f, u.text)
	n := len(o.out.List)
	if o.bytes += len(f.Text); o.bytes >= giveBytes || n == giveEvents {
		return o.flush()
	}
	if n%64 == 0 && time.Since(o.last) >= giveDelay {
		return o.flush()
	}
	return nil
}

func (o *ordering) flush() error {
	out := o.out
	o.out, o.bytes, o.last = nil, 0, time.Now()
	if out == nil {
		return nil
	}
	return o.give(out)
}

// addError notes what is wrong with a block; the rest is given.
func (o *ordering) addError(err error) {
	if len(o.errs) == maxErrors {
		o.beyond++
		return
	}
	o.errs = append(o.errs, err)
}

func (o *ordering) damage() error {
	if o.beyond > 0 {
		o.errs = append(o.errs, fmt.Errorf("%w: and %d more errors", store.ErrDamaged, o.beyond))
	}
	return errors.Join(o.errs...)
}
