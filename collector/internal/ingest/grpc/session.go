package grpc

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/wake"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// session is one call of Stream. Its handler answers; a goroutine of its own receives.
type session struct {
	all    *Server
	stream fleet.Ingest_StreamServer
	peerInfo
	source intake.Source

	// Written by the goroutine that receives, with Server.mu held.
	key  streamKey // what was opened last
	boot string    // the boot of the host that opened it
	// before is where the session came from that it took the stream from.
	before netip.Addr
	// twin is where another session of the name was opened since, that may be another host's.
	twin atomic.Pointer[netip.Addr]

	// Of the goroutine that receives.
	floor  uint64 // Open's oldest
	opened bool

	// Of the handler.
	witness bool   // it asked for checkpoints
	shown   string // the one that it was sent last

	progress wake.Signal // for the handler: something was finished, or receiving has ended
	room     wake.Signal // for the goroutine that receives: answers went out

	mu       sync.Mutex
	queue    []*pending // guarded by mu; not answered, in order of receipt
	inFlight int        // guarded by mu: bytes of queue
	received bool       // guarded by mu: nothing is received any more
	err      error      // guarded by mu: why
	replaced bool       // guarded by mu: another session has opened the stream
}

// pending is what is to be answered: a batch, an Open or a Beat.
type pending struct {
	intake.Batch
	s           *session
	what        kind
	first, next uint64 // a batch's offsets; next is what an Open is answered with
	bytes       int
	sure        bool // an Open's answer is not of a stream that may have been forgotten
	witness     bool // an Open asks for checkpoints
	proof       *fleet.Consistency

	// Guarded by session.mu.
	finished bool
	err      error
}

type kind uint8

const (
	aBatch kind = iota
	anOpen
	aBeat
	aProof
)

// Stream implements fleet.IngestServer. admit has seen to it that the caller may send.
func (s *Server) Stream(stream fleet.Ingest_StreamServer) error {
	p, ok := peer.FromContext(stream.Context())
	if !ok {
		return status.Error(codes.Internal, "no peer")
	}
	info, ok := p.AuthInfo.(peerInfo)
	if !ok {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	c := &session{all: s, stream: stream, peerInfo: info, progress: wake.New(), room: wake.New()}
	c.source = s.cfg.Intake.Connect(journal.Sender{Addr: info.conn.peer, Verified: info.id.Name, Node: info.id.Name, Transport: event.TransportGRPC})
	if !s.enter(c) {
		err := fmt.Errorf("%s has %d streams open already", info.id.Name, s.cfg.Limits.MaxStreams)
		s.crowdedName(info.conn, info.id.Name, err)
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	release, err := s.cfg.Trust.Hold(info.id, func(err error) {
		s.denied(info.conn, info.id.Name, "cut off a sender", err)
		info.conn.cut(metrics.ClosedRevoked)
	})
	if err != nil {
		s.leave(c)
		s.denied(info.conn, info.id.Name, "refused a call", err)
		return status.Error(codes.PermissionDenied, err.Error())
	}
	defer release()
	s.limit.opened(info.conn)
	return c.run()
}

// enter counts a session, unless its name has too many. One is left when nothing of it
// receives any more: who ends calls and makes others has no more of them at once for that.
func (s *Server) enter(c *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names[c.id.Name]) >= s.cfg.Limits.MaxStreams {
		return false
	}
	s.names[c.id.Name] = append(s.names[c.id.Name], c)
	s.cfg.Metrics.Streams.Inc()
	return true
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(s.names[c.id.Name], func(x *session) bool { return x == c })
	if s.names[c.id.Name] = list; len(list) == 0 {
		delete(s.names, c.id.Name)
	}
	if s.streams[c.key] == c {
		delete(s.streams, c.key)
	}
	s.cfg.Metrics.Streams.Dec()
}

// claim makes the session the one of its stream, and ends the one before. boot is the host's.
func (s *Server) claim(c *session, key streamKey, boot string) {
	s.mu.Lock()
	s.compareTwins(c, boot)
	old := s.streams[key]
	if s.streams[c.key] == c {
		delete(s.streams, c.key)
	}
	c.key = key
	s.streams[key] = c
	twins := old != nil && old != c && byTurns(old, c)
	s.mu.Unlock()
	if twins {
		s.goesOn(c, old.conn.peer.Addr(), sharedStream)
	}
	if old != nil && old != c {
		old.mu.Lock()
		old.replaced = true
		old.mu.Unlock()
		old.progress.Set()
	}
}

// run answers until the peer, or this collector, has had enough. When it returns, gRPC
// ends the call, and with it receiving.
func (c *session) run() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := c.receive()
		c.mu.Lock()
		c.received, c.err = true, err
		c.mu.Unlock()
		c.progress.Set()
	}()
	err := c.answer(done)
	// What is with the journal is settled by its done; nobody waits for that here. The
	// receiving ends with the call.
	c.all.served.Go(func() {
		<-done
		c.all.leave(c)
		c.settleRest()
	})
	return err
}

// answer is the handler's loop.
func (c *session) answer(done <-chan struct{}) error {
	timer := time.NewTimer(c.all.cfg.Limits.OpenTimeout)
	defer timer.Stop()
	var signed <-chan time.Time // for a witness: it is time to look for a newer checkpoint
	draining, isDraining, isOpen := c.all.draining, false, false
	for {
		select {
		case <-c.progress:
		case <-done:
			done = nil
		case <-signed:
			if err := c.signed(); err != nil {
				return err
			}
		case <-draining:
			draining, isDraining = nil, true
			if err := c.send(&fleet.StreamResponse{Message: &fleet.StreamResponse_Draining{Draining: &fleet.Draining{}}}); err != nil {
				return err
			}
			timer.Reset(drainGrace)
		case <-timer.C:
			if isDraining {
				return c.goodbye()
			}
			if !isOpen {
				return status.Errorf(codes.DeadlineExceeded, "no Open came in %v", c.all.cfg.Limits.OpenTimeout)
			}
		case <-c.stream.Context().Done():
			return status.FromContextError(c.stream.Context().Err()).Err()
		}
		opened, err := c.reply()
		if err != nil {
			return err
		}
		if isOpen = isOpen || opened; isOpen && !isDraining {
			timer.Stop()
		}
		if opened && c.witness {
			if err := c.signed(); err != nil {
				return err
			}
			if signed == nil {
				every := time.NewTicker(c.all.cfg.Limits.WitnessEvery)
				defer every.Stop()
				signed = every.C
			}
		}
		c.mu.Lock()
		received, replaced, left, why := c.received, c.replaced, len(c.queue), c.err
		c.mu.Unlock()
		switch {
		case replaced:
			return status.Error(codes.Aborted, "another connection has opened this stream")
		case received && (why != nil || left == 0):
			return why
		case isDraining && received:
			return c.goodbye()
		}
	}
}

// goodbye ends a session that the collector's end would cut off, when all is answered.
func (c *session) goodbye() error {
	for {
		if _, err := c.reply(); err != nil {
			return err
		}
		c.mu.Lock()
		left := len(c.queue)
		c.mu.Unlock()
		if left == 0 {
			return status.Error(codes.Unavailable, "the collector stops: go to another one")
		}
		select {
		case <-c.progress:
		case <-c.stream.Context().Done():
			return status.FromContextError(c.stream.Context().Err()).Err()
		}
	}
}

// receive takes in what comes, until the peer ends it (nil) or something is wrong.
func (c *session) receive() error {
	for {
		m, err := c.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if c.twin.Load() != nil {
			if twin := c.twin.Swap(nil); twin != nil {
				c.all.goesOn(c, *twin, twinStreams)
			}
		}
		switch m := m.GetMessage().(type) {
		case *fleet.StreamRequest_Open:
			err = c.open(m.Open)
		case *fleet.StreamRequest_Batch:
			err = c.batch(m.Batch)
		case *fleet.StreamRequest_Beat:
			if rules := m.Beat.GetRules(); len(rules) == rulesLen {
				c.all.hearsRules(c.id.Name, rules)
			}
			c.push(&pending{s: c, what: aBeat, finished: true})
		case *fleet.StreamRequest_Prove:
			err = c.prove(m.Prove)
		default:
			err = c.malformed("message", "a message that this collector does not know")
		}
		if err != nil {
			return err
		}
	}
}

// malformed counts what is not as described, and is the answer to it.
func (c *session) malformed(cause, text string) error {
	c.all.cfg.Metrics.Malformed.Add(cause, 1)
	if ok, suppressed := c.all.noisy.Allow(); ok {
		c.all.cfg.Log.Warn("ended a stream: what it sent is not as the Ingest service has it", "name", c.id.Name, "peer", c.conn.peer.String(), "cause", text, "suppressed", suppressed)
	}
	return status.Error(codes.InvalidArgument, text)
}
