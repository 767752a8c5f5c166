package bolt

import (
	"context"
	"math"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// run delivers until Close. It is a goroutine of its own, and the only one that hands groups to the engine and deletes them.
func (o *Outbox) run() {
	pause := o.times.again
	for o.ctx.Err() == nil {
		err := o.deliver(o.ctx)
		o.note(err)
		if err == nil {
			pause = o.times.again
			select {
			case <-o.kick:
			case <-o.ctx.Done():
			}
			continue
		}
		select {
		case <-time.After(pause):
		case <-o.ctx.Done():
		}
		pause = min(2*pause, o.times.most)
	}
}

// wake has the delivery look again.
func (o *Outbox) wake() {
	select {
	case o.kick <- struct{}{}:
	default: // it will
	}
}

// deliver takes each group through the second and third step, and removes files that are empty afterwards.
func (o *Outbox) deliver(ctx context.Context) error {
	for _, g := range o.local.sealed() {
		if !o.has(g.id) {
			if err := o.handOver(ctx, g); err != nil {
				return err
			}
			if err := o.drop(); err != nil {
				return err
			}
		}
		if err := o.discard(g); err != nil {
			return err
		}
	}
	if err := o.drop(); err != nil {
		return err
	}
	return o.giveRoom()
}

// GiveRoom implements store.Spooler.
func (o *Outbox) GiveRoom() {
	o.tight.Store(true)
	o.wake()
}

// giveRoom has the file that is written go where all that had waited there is delivered and it is large, or the disk is full; see renew.
func (o *Outbox) giveRoom() error {
	slack := o.times.file / 16
	if o.tight.Swap(false) {
		slack = o.times.file / 1024
	}
	begun, err := o.local.renew(slack)
	switch {
	case err != nil: // the next delivery tries again, and nothing else hangs on it
		o.local.log.Warn("what was delivered keeps its room on the disk: no other file can be begun", "error", err)
	case begun:
		return o.drop()
	}
	return nil
}

// drop removes the files whose groups the engine has.
func (o *Outbox) drop() error {
	o.mu.Lock()
	through := o.through
	o.mu.Unlock()
	return o.local.dropHandedOver(o.ctx, through)
}

// handOver has the engine take a group, or sets it aside where it turns out to be damaged.
func (o *Outbox) handOver(ctx context.Context, g sealedGroup) error {
	b, damage, err := g.load()
	if err == nil {
		err = o.engine.Append(ctx, b)
	}
	switch {
	case *damage != nil: // what the engine said of it does not matter: it has not got it
		if o.aside != g.id {
			if err := o.local.keepAside(g, *damage); err != nil {
				return err
			}
			o.aside = g.id
		}
		if err := o.local.discardDamaged(g); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.through = g.id
	o.waiting.Since, o.waiting.Err = time.Time{}, nil
	close(o.moved)
	o.moved = make(chan struct{})
	return nil
}

// has reports whether the engine has taken a group in this process.
func (o *Outbox) has(id uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return id <= o.through
}

// pin keeps groups that a snapshot reads from being deleted: those behind after, up to last.
type pin struct{ after, last uint64 }

func (o *Outbox) pin() *pin {
	o.pinning.Lock()
	defer o.pinning.Unlock()
	p := &pin{last: math.MaxUint64}
	o.pins[p] = struct{}{}
	return p
}

// pinned reports whether a snapshot keeps groups.
func (o *Outbox) pinned() bool {
	o.pinning.Lock()
	defer o.pinning.Unlock()
	return len(o.pins) > 0
}

// narrow says what a snapshot reads.
func (o *Outbox) narrow(p *pin, after, last uint64) {
	o.pinning.Lock()
	p.after, p.last = after, last
	o.pinning.Unlock()
	o.wake()
}

func (o *Outbox) unpin(p *pin) {
	o.pinning.Lock()
	_, was := o.pins[p]
	delete(o.pins, p)
	o.pinning.Unlock()
	if was {
		o.wake()
	}
}

// discard deletes a group that the engine has, unless a snapshot reads it: the next delivery does. A snapshot pins under the same lock, so none begins to
// read it meanwhile.
func (o *Outbox) discard(g sealedGroup) error {
	o.pinning.Lock()
	defer o.pinning.Unlock()
	for p := range o.pins {
		if g.id > p.after && g.id <= p.last {
			return nil
		}
	}
	return o.local.discard(g)
}

// sayAgain is after how long the log says again that the engine takes nothing.
const sayAgain = 10 * time.Minute

// note keeps what became of an attempt, and logs when delivery fails and when it works again.
func (o *Outbox) note(err error) {
	w := o.Waiting()
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil || o.ctx.Err() != nil {
		if err == nil {
			o.waiting.Since, o.waiting.Err = time.Time{}, nil // also of one that could not be deleted
		}
		if !o.said.IsZero() && err == nil {
			o.local.log.Info("the engine takes events again, and has all that waited for it")
			o.said = time.Time{}
		}
		return
	}
	o.waiting.Err = err
	if o.waiting.Since.IsZero() {
		o.waiting.Since = now
	}
	if now.Sub(o.said) < sayAgain {
		return
	}
	o.said = now
	o.local.log.Error("the engine takes no events: they wait on the disk, are searched there, and go on in order once it takes them; when the disk has no more room, senders wait", "error", err,
		"batches", w.Batches, "events", w.Events, "mib", w.Bytes>>20)
}

// await waits until the engine has all that is in the outbox now.
func (o *Outbox) await(ctx context.Context) error {
	last := o.local.lastGroup()
	for {
		o.mu.Lock()
		through, moved := o.through, o.moved
		o.mu.Unlock()
		if through >= last {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-o.ctx.Done():
			return store.ErrClosed
		}
	}
}

// Waiting implements store.Spooler.
func (o *Outbox) Waiting() store.Waiting {
	o.mu.Lock()
	w, through := o.waiting, o.through
	o.mu.Unlock()
	for _, e := range o.local.entriesAfter(through) {
		w.Batches++
		w.Events += e.sum.Events
		w.Bytes += e.sum.RawBytes
	}
	return w
}
