package agent

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// appender is what the pump needs of the spool.
type appender interface {
	Append(mark []byte, lines ...[]byte) error
}

// pump formats records and hands them, a batch at a time, to the plugins, the local log and
// the spool. One goroutine uses it; only the atomic counters may be read by others.
//
// A batch goes: reset, then record or line for each record, then one of the commits.
// arena has all lines of the batch one behind the other, each with its newline; ends says
// where line i ends, so it begins behind the newline of line i-1. The local log gets arena
// itself, the spool slices of it; neither keeps them, so the next reset may reuse arena.
type pump struct {
	prefix []byte // "node=NAME ", or empty
	log    *locallog.Log
	spool  appender // nil: records are not shipped
	// enrich appends a record's enriched tail, nil: log_format = raw.
	enrich  func(dst []byte, r *record.Record) []byte
	plugins *dispatch.Dispatcher // nil: none
	logger  hclog.Logger
	now     func() time.Time
	// trouble is called with the reason why the spool refused a batch; nil: no call.
	trouble func(error)
	// gone reports whether nobody feeds the source any more, so that the pump must not wait
	// for a full spool; nil: false.
	gone func() bool
	// stays reports whether the pump must wait for the end of a trouble that is not a full
	// spool; nil: false.
	stays func() bool

	mark    []byte   // of the present batch: where its source goes on; nil: as before
	spooled [][]byte // the spool has these lines already, of a source that goes on before them
	arena   []byte   // lines with their newlines, of one batch
	ends    []int    // where each line ends, its newline not included
	lines   [][]byte // slices of arena, for the spool

	batch *dispatch.Batch // what the plugins get: EOE records too; nil: nothing
	most  [2]int          // bytes and records of the largest batch lately
	rec   record.Record   // of the record that is enriched

	spooledInAll uint64 // records that the spool took

	unspooled struct { // records the spool did not take, not yet announced
		n           uint64
		first, last time.Time
	}
	failing   bool // the spool did not take the last batch
	saidSpool time.Time

	turned     atomic.Uint64 // turns of pumpLoop, and tries of commitOrWait
	records    atomic.Uint64 // handed on
	bytes      atomic.Uint64 // of them, newlines included
	eoe        atomic.Uint64 // EOE records, which stay at home
	spoolError atomic.Uint64 // records the spool did not take
	// shippedOnly are the records that the local log did not take and the spool did:
	// nothing is missing of them at the collector.
	shippedOnly atomic.Uint64
	unlogged    uint64 // records of the present batch that the local log did not take
}

// retrySpool is how long a source of lines waits for a full spool between tries.
const retrySpool = 100 * time.Millisecond

func (p *pump) reset() {
	p.arena, p.ends = p.arena[:0], p.ends[:0]
	p.batch = nil
	if p.plugins != nil && p.plugins.Active() {
		p.batch = dispatch.NewBatch(p.most[0], p.most[1])
	}
}

// record adds one kernel record to the batch: what the stock daemon writes. EOE
// records are for plugins alone.
func (p *pump) record(r kernel.Record) {
	if r.Type == tables.EOE {
		p.eoe.Add(1)
		if p.batch == nil {
			return
		}
	}
	start := len(p.arena)
	a := append(p.arena, p.prefix...)
	a = append(a, "type="...)
	a = append(a, tables.TypeName(r.Type)...)
	a = append(a, " msg="...)
	from := len(a)
	a = append(a, r.Text...)
	// A user program's text may hold newlines; a record is one line.
	for text := a[from:]; ; {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			break
		}
		text[i] = ' '
		text = text[i+1:]
	}
	if p.enrich != nil && p.rec.Parse(a[start:]) == nil {
		a = p.enrich(a, &p.rec)
	}
	if p.batch != nil {
		p.batch.Add(r.Type, a[start:])
	}
	if r.Type == tables.EOE {
		p.arena = a[:start]
		return
	}
	p.ends = append(p.ends, len(a))
	p.arena = append(a, '\n')
}

// line adds a record that came as a finished line.
func (p *pump) line(line []byte) {
	a := p.arena
	if len(p.prefix) > 0 && !hasNode(line) {
		a = append(a, p.prefix...)
	}
	a = append(a, line...)
	if len(p.spooled) > 0 {
		if bytes.Equal(a[len(p.arena):], p.spooled[0]) {
			p.spooled = p.spooled[1:]
			return
		}
		p.spooled = nil // another file than before: all of it is new
	}
	p.ends = append(p.ends, len(a))
	p.arena = append(a, '\n')
}

// commit hands the batch to plugins, local log and spool. The local log counts what it
// can't write and returns no error. An error is the spool's; the caller decides what
// follows.
func (p *pump) commit() error {
	p.keep()
	if len(p.ends) == 0 || p.spool == nil {
		return nil
	}
	p.split()
	return p.append()
}

// keep hands the batch to the plugins and the local log.
func (p *pump) keep() {
	if p.batch != nil {
		p.most = [2]int{p.batch.Bytes(), p.batch.Len()}
		p.plugins.Put(p.batch)
		p.batch = nil
	}
	if len(p.ends) == 0 {
		return
	}
	p.unlogged = 0
	if p.log != nil {
		before := p.log.Stats().Dropped
		p.log.WriteLines(p.arena, len(p.ends))
		p.log.Flush()
		p.unlogged = p.log.Stats().Dropped - before
	}
	p.records.Add(uint64(len(p.ends)))
	p.bytes.Add(uint64(len(p.arena)))
}

// split finds the batch's lines.
func (p *pump) split() {
	p.lines = p.lines[:0]
	from := 0
	for _, end := range p.ends {
		p.lines = append(p.lines, p.arena[from:end])
		from = end + 1
	}
}

// announceUnspooled hands on the record that says what the spool did not take, if the spool
// takes that: one that is nearly full may not, and then it is said later, once and for all.
func (p *pump) announceUnspooled(loss kernel.Record) {
	if p.try(loss, p.mark) {
		p.unspooled.n = 0
	}
}

// try hands on a record of ours if the spool takes it.
func (p *pump) try(r kernel.Record, mark []byte) bool {
	p.reset()
	p.record(r)
	p.split()
	if p.spool.Append(mark, p.lines...) != nil {
		p.batch = nil
		return false
	}
	p.spooledInAll += uint64(len(p.lines))
	p.keep()
	p.shippedOnly.Add(p.unlogged)
	return true
}

// append gives the batch to the spool.
func (p *pump) append() error {
	err := p.spool.Append(p.mark, p.lines...)
	if err == nil {
		p.spooledInAll += uint64(len(p.lines))
		p.shippedOnly.Add(p.unlogged)
	}
	return err
}

// commitOrCount is commit for records that can't wait: the kernel's. It counts the records
// that the spool refuses, and announces them by a record once the spool accepts records
// again.
func (p *pump) commitOrCount() {
	err := p.commit()
	p.failing = err != nil
	if err == nil {
		return
	}
	p.troubled(err)
	now := p.now()
	n := uint64(len(p.ends))
	p.spoolError.Add(n)
	if p.unspooled.n == 0 {
		p.unspooled.first = now
	}
	p.unspooled.n += n
	p.unspooled.last = now
	if now.Sub(p.saidSpool) >= time.Minute {
		p.saidSpool = now
		where := "they are in the local log only"
		if p.log == nil || p.unlogged > 0 {
			where = "they are lost, for the local log does not take them either"
		}
		todo := "look at the disk (dmesg); the next start opens the spool anew"
		if errors.Is(err, spool.ErrFull) {
			todo = "make room on the spool's filesystem, give it more (--spool-size), or have the collector take records again"
		}
		p.logger.Error("the spool does not take records: "+where, "error", err, "records", p.spoolError.Load(), "todo", todo)
	}
}

func (p *pump) troubled(err error) {
	if p.trouble != nil {
		p.trouble(err)
	}
}

// commitOrWait is commit for records that can wait where they are: it returns
// when the spool has taken them, when it fails for good and that is to end the
// program, or when ctx or the dispatcher that feeds us ends.
func (p *pump) commitOrWait(ctx context.Context) error {
	err := p.commit()
	for said := false; err != nil; err = p.append() {
		p.turned.Add(1)
		if !said {
			p.troubled(err)
		}
		if said && p.gone != nil && p.gone() {
			return errHungUp
		}
		if !errors.Is(err, spool.ErrFull) && (p.stays == nil || !p.stays()) {
			return err
		}
		if !said {
			said = true
			p.logger.Info("the spool takes no records, reading waits", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retrySpool):
		}
	}
	return err
}
