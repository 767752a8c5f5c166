package grpc

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

const (
	// maxClaim bounds the name that a host calls itself.
	maxClaim = 255
	// heavyBatch is how many records make a batch one of those that share a part of the
	// journal's queue, so that a sender of a record now and then need not wait behind them.
	// So do heavyBytes that its stream has in flight, in however many batches.
	heavyBatch = 64
	heavyBytes = 16 << 10
)

// open begins a stream, or goes on with another one.
func (c *session) open(o *fleet.Open) error {
	switch {
	case o.GetVersion() != ingest.Version:
		c.all.cfg.Metrics.Malformed.Add(metrics.MalformedVersion, 1)
		return status.Errorf(codes.FailedPrecondition, "version %d of the protocol is not known here, which knows %d: update the older of both programs", o.GetVersion(), ingest.Version)
	case len(o.GetStreamId()) != len(journal.StreamID{}) || journal.StreamID(o.GetStreamId()) == journal.StreamID{}:
		return c.malformed("open", fmt.Sprintf("a stream ID of %d bytes, or of zeroes", len(o.GetStreamId())))
	case len(o.GetHost()) > maxClaim || len(o.GetBootId()) > maxClaim || len(o.GetProgram()) > maxClaim || len(o.GetKernel()) > maxClaim || len(o.GetRules()) != 0 && len(o.GetRules()) != rulesLen || len(o.GetLost()) > 64:
		return c.malformed("open", "an Open with more than it may have")
	}
	key := streamKey{c.id.Name, journal.StreamID(o.GetStreamId())}
	c.all.hears(c.id.Name, o)
	c.all.claim(c, key, o.GetBootId())
	c.floor, c.opened = o.GetOldest(), true
	// What another connection has in the journal's queue may still move it: then what
	// comes twice is known there.
	held, sure := c.all.cfg.Offsets.Held(key.name, key.id)
	c.push(&pending{s: c, what: anOpen, next: held, sure: sure, witness: o.GetWitness() && c.all.witnesses != nil, finished: true})
	c.all.cfg.Log.Debug("a stream was opened", "name", c.id.Name, "peer", c.conn.peer.String(), "claims", string(o.GetHost()), "stream", fmt.Sprintf("%x", key.id),
		"held", held, "oldest", o.GetOldest(), "newest", o.GetNewest(), "program", o.GetProgram())
	return nil
}

// batch takes in a batch and hands it to the journal. It waits while too much is in flight.
func (c *session) batch(m *fleet.RecordBatch) error {
	if !c.opened {
		return c.malformed("order", "a batch before the first Open")
	}
	if m.GetSkipped() > ingest.MaxLead || m.GetFirst() > 1<<62 {
		return c.malformed("batch", fmt.Sprintf("%d offsets skipped from %d on", m.GetSkipped(), m.GetFirst()))
	}
	size, err := ingest.Size(m.GetRecords())
	if err != nil {
		return c.malformed("batch", err.Error())
	}
	if err := c.await(size); err != nil {
		return err
	}
	in := c.all.cfg.Intake
	if !in.TryAcquire(size) {
		// A call that has ended must not wait here: another one can be made at once.
		if err := in.Acquire(c.stream.Context(), size); err != nil {
			return status.FromContextError(err).Err()
		}
	}
	p, err := c.unpack(m, size)
	if err != nil {
		in.Release(size)
		return err
	}
	in.Enter(size)
	c.all.cfg.Metrics.Batches.Inc()
	c.all.cfg.Metrics.WireBytes.Add(float64(len(m.GetRecords())))
	c.push(p)
	if err := in.Submit(c.all.ctx, &p.Batch, p.done); err != nil {
		p.done(err)
	}
	return nil
}

// unpack makes a batch of what came.
func (c *session) unpack(m *fleet.RecordBatch, size int) (*pending, error) {
	raw, err := ingest.Unpack(m.GetRecords(), size)
	if err != nil {
		return nil, c.malformed("batch", err.Error())
	}
	p := &pending{s: c, first: m.GetFirst(), bytes: size}
	p.Batch.Batch = journal.Batch{Conn: c.source.Conn, Sender: c.source.Sender, Managed: true, Received: c.all.cfg.Now()}
	p.Records = make([]journal.Record, 0, size/160+1)
	at, empty := m.GetFirst()+m.GetSkipped(), 0
	for len(raw) > 0 {
		skipped, text, rest, err := ingest.Next(raw)
		if err != nil {
			return nil, c.malformed("batch", err.Error())
		}
		at += uint64(skipped)
		if len(text) > 0 {
			p.Records = append(p.Records, journal.Record{Seq: uint32(at), Raw: text}) //nolint:gosec // its lower half
		} else {
			empty++ // its offset is passed, and nothing is stored: a frame of 26 bytes has 40,000 of them
		}
		at++
		raw = rest
	}
	p.next = at
	c.all.cfg.Intake.Empty(empty)
	c.mu.Lock()
	p.Heavy = len(p.Records) > heavyBatch || c.inFlight+size > heavyBytes
	c.mu.Unlock()
	p.Span = journal.Span{Stream: c.key.id, From: p.first, To: at, Floor: c.floor}
	return p, nil
}

// await waits until a stream that has much in flight has less.
func (c *session) await(size int) error {
	for {
		c.mu.Lock()
		full := c.inFlight > 0 && c.inFlight+size > c.all.cfg.Limits.MaxInFlight || len(c.queue) >= maxQueue
		c.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-c.room:
		case <-c.stream.Context().Done():
			return status.FromContextError(c.stream.Context().Err()).Err()
		}
	}
}
