package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// watched is a call that a Watch records. Its methods may be called on nil: nobody watches then.
type watched struct {
	w     *Watch
	begun time.Time
	quiet bool // recorded only when it is refused
	timer *time.Timer

	mu      sync.Mutex // guards the rest
	asked   Asked
	note    bool   // it asks beside a search: see Watch.beside
	text    bool   // it answers in text: the source counts the events
	entered bool   // it has a place among the calls: it is not refused any more
	serial  uint64 // of the record that says that it began
	said    bool   // that it began
	done    bool
}

type watchedKey struct{}

// within returns a context by which a call's handler finds its watched.
func within(ctx context.Context, x *watched) context.Context {
	return context.WithValue(ctx, watchedKey{}, x)
}

// watchedOf is the watched of a call; nil where nobody watches.
func watchedOf(ctx context.Context) *watched {
	x, _ := ctx.Value(watchedKey{}).(*watched)
	return x
}

// watchedStream is a stream whose messages are noted.
type watchedStream struct {
	grpc.ServerStream
	ctx context.Context
	x   *watched
}

// Context implements grpc.ServerStream.
func (s *watchedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *watchedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.x.asks(m)
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (s *watchedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.x.counts(m)
	}
	return err
}

// asks notes a request. What the requests of events ask is noted by query, once they are read.
func (x *watched) asks(m any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := &x.asked
	var t text
	switch r := m.(type) {
	case *fleet.SearchRequest:
		if r.GetBatches() {
			a.Op = opCheckpoint
		}
		return
	case *fleet.TallyRequest, *fleet.FollowRequest:
		return
	case *fleet.EvidenceRequest:
		t.command(a.Op, r.GetWords())
		for _, h := range r.GetConditions().GetNodes() {
			a.Hosts = append(a.Hosts, string(h))
		}
		a.Hosts, a.Since, a.Until = hostsOf(a.Hosts), r.GetConditions().GetStartMs(), r.GetConditions().GetEndMs()
	case *fleet.TextRequest:
		x.text = true
		t.command(a.Op, r.GetWords())
	case *fleet.ReportRequest:
		x.text = true
		t.command(a.Op, r.GetWords())
	case *fleet.HostsRequest, *fleet.StatusRequest:
		t.word(a.Op)
	case *fleet.CoverageRequest:
		q := query.Query{StartMs: r.GetFromMs(), EndMs: r.GetToMs()}
		for _, h := range r.GetHosts() {
			q.Nodes = append(q.Nodes, string(h))
		}
		x.note = r.GetNote()
		t.word(a.Op)
		t.conditions(&q)
		a.Hosts, a.Since, a.Until = hostsOf(q.Nodes), q.StartMs, q.EndMs
	case *fleet.ChangeHostsRequest:
		t.word("hosts")
		for _, name := range r.GetForget() {
			t.words("--forget", string(name))
			a.Hosts = append(a.Hosts, string(name))
		}
		for _, to := range r.GetReattribute() {
			t.words("--reattribute", to.GetAddress()+"="+string(to.GetName()))
		}
	case *fleet.ForgetCollectorRequest:
		t.words("hosts", "--forget-collector", r.GetName())
	case *fleet.AlertsRequest:
		t.word("alerts")
	case *fleet.TestAlertRequest:
		t.words("alerts", "test")
		if r.GetSink() != "" {
			t.word(r.GetSink())
		}
	case *fleet.HoldsRequest:
		t.words("hold", "list")
	case *fleet.ChangeHoldsRequest:
		a.Hosts = t.holds(r)
	case *fleet.ImportRequest:
		begin := r.GetBegin()
		if begin == nil {
			return
		}
		t.command("import", begin.GetWords())
	case *fleet.ImportsRequest:
		t.words("import", "--list")
	case *fleet.UndoImportRequest:
		t.words("import", "--undo", r.GetName())
	case *fleet.CheckpointRequest:
		t.words("seal", "checkpoint")
		if r.GetFrom() > 0 {
			t.words("--from", fmt.Sprint(r.GetFrom()))
		}
	case *fleet.AcceptLogRequest:
		t.words("seal", "accept", "--reason", string(r.GetReason()))
	case *fleet.ToldRequest:
		x.tells(r)
		return
	case proto.Message:
		t.word(a.Op)
		if s := prototext.Format(r); s != "" {
			t.word(s)
		}
	}
	a.Command, a.Bytes = t.b.String(), t.all
}

// Words for calls that are searches: one that does not end, and one that goes on where another has
// ended (search --checkpoint, which knows the records of it by this word).
const (
	opFollow     = "follow"
	opCheckpoint = "search-new"
)

// holds adds the words of a change of what is on hold, which it returns.
func (t *text) holds(r *fleet.ChangeHoldsRequest) (what []string) {
	t.word("hold")
	for _, list := range []struct {
		name  string
		words [][]byte
	}{{"add", r.GetAdd()}, {"remove", r.GetRemove()}} {
		if len(list.words) == 0 {
			continue
		}
		t.word(list.name)
		for _, w := range list.words {
			t.word(string(w))
			what = append(what, string(w))
		}
	}
	if r.GetAll() {
		t.words("remove", "--all")
	}
	if reason := string(r.GetReason()); reason != "" {
		t.words("--reason", reason)
	}
	return what
}

// command adds the words of a command.
func (t *text) command(name string, words [][]byte) {
	t.word(name)
	for _, w := range words {
		t.word(string(w))
	}
}

// tells notes what a command says of itself; mu is held.
func (x *watched) tells(r *fleet.ToldRequest) {
	a := &x.asked
	if e := r.GetExit(); e != nil {
		code := e.GetCode()
		a.Exit, a.Reason = &code, string(e.GetMessages())
	}
	if x.said || len(r.GetWords()) == 0 {
		return
	}
	var t text
	t.command(string(r.GetWords()[0]), r.GetWords()[1:])
	a.Command, a.Bytes, a.Told = t.b.String(), t.all, true
	if op := string(r.GetWords()[0]); len(op) <= 32 && op != "" && !strings.ContainsFunc(op, func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') }) {
		a.Op = op
	}
	x.say()
}

// query notes what a call asks of the events: all of it, or the times and hosts of one that
// has words for the rest.
func (x *watched) query(q *query.Query, words ...string) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	a := &x.asked
	if x.text {
		if a.Hosts == nil && a.Since == 0 && a.Until == 0 {
			a.Hosts, a.Since, a.Until = hostsOf(q.Nodes), q.StartMs, q.EndMs
			x.w.searches(a)
		}
		return
	}
	var t text
	switch a.Op {
	case opFollow:
		t.words("search", "--follow")
	case opCheckpoint:
		t.words("search", "--checkpoint")
	default:
		t.word(a.Op)
	}
	t.conditions(q)
	for _, w := range words {
		t.word(w)
	}
	a.Command, a.Bytes, a.Hosts, a.Since, a.Until = t.b.String(), t.all, hostsOf(q.Nodes), q.StartMs, q.EndMs
	x.w.searches(a)
	if a.Op == opFollow {
		x.say()
	}
}

// enters notes that a call has a place among those that are answered.
func (x *watched) enters() {
	if x == nil {
		return
	}
	x.mu.Lock()
	x.entered = true
	x.mu.Unlock()
}

// counts notes a part of the answer.
func (x *watched) counts(m any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := &x.asked
	events := func(e *fleet.Events) {
		a.Results += uint64(len(e.GetEvents()))
		a.Sent += uint64(len(e.GetRaw()))
	}
	texts := func(t *fleet.Texts) {
		for _, size := range t.GetSizes() {
			a.Results, a.Sent = a.Results+1, a.Sent+uint64(size>>1)
		}
	}
	switch r := m.(type) {
	case *fleet.SearchResponse:
		events(r.GetEvents())
		for _, p := range r.GetPieces() {
			texts(p.GetTexts())
			for _, b := range p.GetBlocks() {
				a.Results, a.Sent = a.Results+uint64(b.GetMatches()), a.Sent+uint64(b.GetSize())
			}
		}
	case fleet.SentTexts:
		texts(r.Texts)
	case *fleet.FollowResponse:
		events(r.GetEvents())
	case *fleet.TallyResponse:
		events(r.GetRest())
		a.Results += uint64(r.GetEvents())
	case *fleet.TextResponse:
		a.prints(r.GetText(), r.GetExit())
	case *fleet.ReportResponse:
		a.prints(r.GetText(), r.GetExit())
	case *fleet.EvidenceResponse:
		a.Sent += uint64(len(r.GetPiece()))
		if r.GetFile() == evidenceLines {
			a.Results += uint64(bytes.Count(r.GetPiece(), []byte("\n")))
		}
	case *fleet.ImportResponse:
		a.Results += uint64(max(0, r.GetSum().GetStored()))
	case *fleet.ImportsResponse:
		a.Results += uint64(len(r.GetImports()))
	case *fleet.UndoImportResponse:
		a.Results += uint64(max(0, r.GetRecords()))
	case *fleet.HostsResponse:
		a.Results += uint64(len(r.GetHosts()))
	case *fleet.CoverageResponse:
		a.Results++
	case *fleet.ChangeHostsResponse:
		a.Results += uint64(len(r.GetForgotten()))
	case *fleet.ForgetCollectorResponse:
		a.Results += uint64(len(r.GetLosses()))
	case *fleet.AlertsResponse:
		a.Results += uint64(len(r.GetAlerts()))
	case *fleet.TestAlertResponse:
		a.Results += uint64(len(r.GetTests()))
	case *fleet.HoldsResponse:
		a.Results += uint64(len(r.GetHolds()))
	case *fleet.ChangeHoldsResponse:
		a.Results += uint64(len(r.GetDone()))
	}
}

func (a *Asked) prints(text []byte, e *fleet.Exit) {
	a.Sent += uint64(len(text))
	if e != nil {
		code := e.GetCode()
		if a.Exit = &code; code > 1 {
			a.Reason = string(e.GetMessages())
		}
	}
}

// beginning records that a call began which takes long.
func (x *watched) beginning() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.done && !x.note {
		x.say()
	}
}

// say records that the call has begun, once; mu is held.
func (x *watched) say() {
	if x.said {
		return
	}
	x.said = true
	a := x.asked
	a.State, a.Reason, a.Took = StateBegun, "", time.Since(x.begun)
	x.serial = x.w.Record(&a)
}

// end records the call's end, with the error that the caller gets.
func (x *watched) end(ctx context.Context, err error) {
	x.mu.Lock()
	state, reason := x.stateOf(ctx, err)
	x.mu.Unlock()
	if x.isNote() && state != StateRefused { // the search that it belongs to may begin behind it
		x.timer.Stop()
		time.AfterFunc(noteDelay, func() { x.leave(state, reason) })
		return
	}
	x.leave(state, reason)
}

// isNote reports whether it asks beside a search.
func (x *watched) isNote() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.note
}

// noteDelay is how much later than a question about its completeness a search may begin.
const noteDelay = time.Second

// leave records the call's end unless it belongs to another call, and forgets the call.
func (x *watched) leave(state State, reason string) {
	x.w.mu.Lock()
	_, running := x.w.running[x]
	delete(x.w.running, x)
	x.w.mu.Unlock()
	if running && !(x.isNote() && state != StateRefused && x.w.beside(x)) {
		x.finish(state, reason)
	}
}

// finish records the call's end, unless that was done.
func (x *watched) finish(state State, reason string) {
	if x.timer != nil {
		x.timer.Stop()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	x.done = true
	if x.quiet && state != StateRefused {
		return
	}
	a := x.asked
	a.State, a.Took = state, time.Since(x.begun)
	if reason != "" {
		a.Reason = reason
	}
	x.w.Record(&a)
}

// stateOf says how a call has ended, and why; mu is held.
func (x *watched) stateOf(ctx context.Context, err error) (State, string) {
	cause := context.Cause(ctx)
	st := status.Convert(err)
	switch {
	case err == nil && x.asked.Exit != nil && (*x.asked.Exit > 1 || x.asked.Told && *x.asked.Exit != 0):
		return StateFailed, ""
	case err == nil && x.asked.Told && x.asked.Exit == nil:
		return StateCancelled, "the command did not say how it ended"
	case err == nil:
		return StateComplete, ""
	case cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded):
		return StateCutOff, cause.Error() // the collector ended the caller's connection, or its right to ask
	}
	switch st.Code() {
	case codes.DataLoss:
		return StateDamaged, st.Message()
	case codes.Canceled, codes.DeadlineExceeded:
		return StateCancelled, ""
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return StateRefused, st.Message()
	case codes.ResourceExhausted:
		if !x.entered {
			return StateRefused, st.Message()
		}
		return StateCutOff, st.Message()
	case codes.Aborted:
		return StateCutOff, st.Message()
	}
	if cause != nil { // what it could not send, and the like
		return StateCancelled, ""
	}
	return StateFailed, st.Message()
}

// noting is a source whose questions are noted as those of a call.
type noting struct {
	Source
	x *watched
}

// source returns the service's source, for a call.
func (s *Service) source(ctx context.Context) Source {
	if x := watchedOf(ctx); x != nil {
		return &noting{s.Source, x}
	}
	return s.Source
}

// Scan implements query.Source.
func (n *noting) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	n.x.query(q)
	return n.Source.Scan(ctx, q, func(ev *event.Event) error {
		n.found(1)
		return fn(ev)
	})
}

// ScanText implements query.TextSource.
func (n *noting) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	n.x.query(q)
	return n.Source.ScanText(ctx, q, func(t query.Texts) error {
		n.found(uint64(t.Len()))
		return fn(t)
	})
}

// Tally implements query.Source.
func (n *noting) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	n.x.query(q)
	sum, err := n.Source.Tally(ctx, q, fields, rest)
	if sum != nil && sum.Events > 0 {
		n.found(uint64(sum.Events))
	}
	return sum, err
}

// Follow implements query.Source. Who follows everything gets the records of all others' calls,
// and of the own one all but that it began: that is no news.
func (n *noting) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error {
	n.x.query(q)
	all := *q
	all.Limit = 0 // of those that fn gets
	fn = q.Limited(fn)
	err := n.Source.Follow(ctx, &all, func(ev *event.Event) error {
		if n.x.isBeginning(ev) {
			return nil
		}
		n.found(1)
		return fn(ev)
	}, idle)
	if errors.Is(err, query.ErrStop) {
		return nil
	}
	return err
}

// found counts events of an answer in text.
func (n *noting) found(events uint64) {
	n.x.mu.Lock()
	if n.x.text {
		n.x.asked.Results += events
	}
	n.x.mu.Unlock()
}

// isBeginning reports whether an event is the record that says that the call began.
func (x *watched) isBeginning(ev *event.Event) bool {
	if string(ev.Node) != x.w.Node {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.serial != 0 && ev.Serial == x.serial
}
