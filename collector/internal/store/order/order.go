package order

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

const (
	// Events are given when so many wait, or so many bytes of them, or for so long.
	giveEvents = 1024
	giveBytes  = 256 << 10
	giveDelay  = 100 * time.Millisecond
	// aheadOf is how many pieces a processor may be received before they are needed.
	aheadOf = 8
	// maxHeld bounds the texts of pieces whose events wait for others'; of those beyond it only places are kept, and each event is unpacked again.
	maxHeld = 256 << 20
	// maxErrors is how many errors of damaged blocks are said.
	maxErrors = 16
)

// Piece is a piece with its block's frame.
type Piece struct {
	*store.Piece
	Frame *Frame
}

// errOrder is returned for pieces that do not come in their order.
var errOrder = errors.New("the collector's answer is not in its order")

// ordering is one answer that is made.
type ordering struct {
	q      *query.Query
	heap   heap
	begun  int64 // no piece that comes begins before, but early ones
	all    bool  // none comes any more
	held   atomic.Int64
	most   int64
	units  chan *unit // in the order in which they came
	own    reader     // the merge's, for what is unpacked again
	again  map[*unit][]byte
	out    *texts // that wait to be given
	bytes  int    // of them
	last   time.Time
	give   func(query.Texts) error
	errs   []error
	beyond int // errors that are not said
}

// Run gives the events of an answer to give, some at a time, in order; who gets them may keep them, or calls Done. receive calls its function with the answer's
// pieces as they come, and returns what that returns. After an error of receive that wraps store.ErrDamaged all that came is given before Run returns it. ErrStop of
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
	o := &ordering{q: q, heap: heap{reverse: q.Reverse}, most: most, units: make(chan *unit, aheadOf*workers), own: newReader(q, codec), again: map[*unit][]byte{}, begun: math.MinInt64, last: time.Now(), give: give}
	todo := make(chan *unit, aheadOf*workers)
	var working sync.WaitGroup
	for range workers {
		r := newReader(q, codec)
		working.Go(func() {
			for u := range todo {
				r.read(u, o.hold(u))
			}
		})
	}
	received := make(chan error, 1)
	working.Go(func() {
		defer close(o.units)
		defer close(todo)
		received <- receive(ctx, func(p Piece) error {
			u := &unit{p: p.Piece, frame: p.Frame, ready: make(chan struct{})}
			if u.frame != nil {
				u.frame.use()
			}
			select {
			case o.units <- u:
			case <-ctx.Done():
				return ctx.Err()
			}
			todo <- u // workers read it to its end
			return nil
		})
	})
	if err = o.run(ctx); err == nil {
		err = ctx.Err()
	}
	cancel()
	for range o.units { // receive ends soon
	}
	working.Wait()
	switch rerr := <-received; {
	case errors.Is(err, query.ErrStop):
		return nil
	case err != nil:
		return err
	case rerr != nil:
		return rerr
	}
	return o.damage()
}

// hold counts a unit's texts as held, where there is room.
func (o *ordering) hold(u *unit) bool {
	if u.p.Block == nil || o.held.Load() > o.most {
		return false
	}
	u.counts = true
	o.held.Add(int64(u.p.Block.Len))
	return true
}

// run is the merge.
func (o *ordering) run(ctx context.Context) error {
	for {
		if err := o.fill(); err != nil {
			return err
		}
		if len(o.heap.list) == 0 {
			return o.flush()
		}
		top := &o.heap.list[0]
		if !top.event {
			if err := ctx.Err(); err != nil {
				return err
			}
			<-top.u.ready
			if top.u.err != nil {
				o.addError(top.u.err)
			}
			o.advance(top.u, 0)
			continue
		}
		u, pos := top.u, top.pos
		f, err := u.found(pos, func() ([]byte, error) { return o.textAgain(u) })
		if err != nil {
			o.addError(err)
		} else if err := o.add(f, u); err != nil {
			return err
		}
		o.advance(u, pos+1)
	}
}

// fill takes pieces until none that comes may have an event that goes before the heap's first, and that event may be given.
func (o *ordering) fill() error {
	for !o.all && (len(o.heap.list) == 0 || o.heap.list[0].due >= o.begun) {
		var u *unit
		var more bool
		select {
		case u, more = <-o.units:
		default:
			var err error
			if u, more, err = o.wait(); err != nil {
				return err
			}
		}
		if !more {
			o.all = true
			return nil
		}
		due := o.due(u.p.MinMs, u.p.MaxMs)
		if !u.p.Early {
			if due < o.begun {
				return fmt.Errorf("%w: a piece of %d behind one of %d", errOrder, due, o.begun)
			}
			o.begun = due
		}
		o.heap.push(item{due: due, u: u})
	}
	return nil
}

// wait waits for a piece, and gives what has waited long meanwhile.
func (o *ordering) wait() (u *unit, more bool, err error) {
	if o.out != nil {
		late := time.NewTimer(giveDelay - time.Since(o.last))
		defer late.Stop()
		select {
		case u, more = <-o.units:
			return u, more, nil
		case <-late.C:
			if err := o.flush(); err != nil {
				return nil, false, err
			}
		}
	}
	u, more = <-o.units
	return u, more, nil
}

// due is the first time of the answer that something may have.
func (o *ordering) due(least, most int64) int64 {
	if o.q.Reverse {
		return -most
	}
	return least
}

// advance puts the unit's event pos in the place of the heap's first item, which is the unit's; a unit that has no more is done.
func (o *ordering) advance(u *unit, pos int) {
	if pos >= len(u.list) {
		o.heap.pop()
		if u.counts {
			o.held.Add(-int64(u.p.Block.Len))
		}
		if u.text != nil {
			u.text.release()
		}
		delete(o.again, u)
		u.list, u.text = nil, nil
		return
	}
	e := &u.list[pos]
	o.heap.list[0] = item{due: o.due(e.ms, e.ms), event: true, node: u.node(pos), serial: e.serial, batch: e.batch, pos: pos, u: u}
	o.heap.down()
}

// mostAgain is of how many units the texts that were unpacked again are kept.
const mostAgain = 64

// textAgain unpacks a unit's block again.
func (o *ordering) textAgain(u *unit) ([]byte, error) {
	if text, ok := o.again[u]; ok {
		return text, nil
	}
	u.frame.use()
	frame, err := u.frame.unpack(o.own.codec)
	if err != nil {
		return nil, err
	}
	text, err := cut(u.p.Block, frame.b) // it is never released, for nobody knows which events have parts of it
	if err != nil {
		return nil, err
	}
	for k := range o.again { // any of them
		if len(o.again) < mostAgain {
			break
		}
		delete(o.again, k)
	}
	o.again[u] = text
	return text, nil
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
