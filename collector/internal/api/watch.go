package api

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// longCall is how long a call may take before its beginning is recorded, too.
const longCall = 2 * time.Second

// Watch has every call of the query service recorded, whichever way it comes: who asked what,
// and what became of it. A call that is added to the service is watched without more ado. Its
// exported fields are set before the first call.
//
// A call is recorded at its end. One that takes long is recorded when it has for two seconds,
// too, and one that follows, or tells of a command, when it begins: whatever becomes of the
// collector then, that is known. Status is not recorded: it shows nothing of any host.
type Watch struct {
	// Record stores what was asked, and returns the serial of the record; 0 for none. It
	// may wait for a name of an account, and for no disk.
	Record func(*Asked) (serial uint64)
	// Node is the name under which that is stored.
	Node string

	mu      sync.Mutex // guards the rest
	running map[*watched]struct{}
	asking  map[asker]*asking // who has begun to search or report
	closed  bool
}

// asker tells askers apart: a process, or a certificate.
type asker struct {
	pid  int32
	name string
}

// asking is what somebody searches.
type asking struct {
	last  time.Time // when the last of it began
	about []scope   // the latest maxScopes
}

// scope is which hosts, none for all, and times a question is about; 0 is open.
type scope struct {
	hosts        []string
	since, until int64
}

// has reports whether other is a part of it.
func (s *scope) has(other *scope) bool {
	for _, h := range other.hosts {
		if len(s.hosts) > 0 && !slices.Contains(s.hosts, h) {
			return false
		}
	}
	return (len(s.hosts) == 0 || len(other.hosts) > 0) && s.since <= other.since && (s.until == 0 || other.until != 0 && other.until <= s.until)
}

// besideTime is how long before or after a search a question about its completeness may begin or
// end that belongs to it, and maxAsking how many askers are remembered for that.
const (
	besideTime = 10 * time.Second
	maxAsking  = 4096
	maxScopes  = 16
)

// asks notes that somebody searches; mu is held.
func (w *Watch) asks(who *Who) {
	if w.asking == nil {
		w.asking = map[asker]*asking{}
	}
	now := time.Now()
	if len(w.asking) >= maxAsking {
		for a, x := range w.asking {
			if now.Sub(x.last) > besideTime {
				delete(w.asking, a)
			}
		}
	}
	a := asker{who.PID, who.Name}
	x := w.asking[a]
	if x == nil && len(w.asking) >= maxAsking { // a question has a record of its own then
		return
	}
	if x == nil || now.Sub(x.last) > besideTime {
		x = &asking{}
		w.asking[a] = x
	}
	x.last = now
}

// searches notes what somebody searches.
func (w *Watch) searches(a *Asked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.asking[asker{a.Who.PID, a.Who.Name}]
	if x == nil {
		return
	}
	if len(x.about) == maxScopes {
		x.about = slices.Delete(x.about, 0, 1)
	}
	x.about = append(x.about, scope{a.Hosts, a.Since, a.Until})
}

// beside reports whether a call belongs to a search of the same asker, for what it is about, that is
// recorded.
func (w *Watch) beside(x *watched) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.asking[asker{x.asked.Who.PID, x.asked.Who.Name}]
	about := scope{x.asked.Hosts, x.asked.Since, x.asked.Until}
	return s != nil && s.last.After(x.begun.Add(-besideTime)) && slices.ContainsFunc(s.about, func(searched scope) bool { return searched.has(&about) })
}

// Asked is a call, for a record. Strings are the caller's: they have any bytes.
type Asked struct {
	Who     Who
	Op      string   // a word: search, follow, count, hosts, coverage, report, change-hosts, verify …
	Command string   // the request in words, the first kilobytes of it
	Bytes   int      // of the whole command
	Hosts   []string // that were asked for; none for all
	// Since and Until are the times asked for, in milliseconds since 1970; 0 is open.
	Since, Until int64
	Told         bool // the command tells of itself what Command is

	State   State
	Reason  string // why it did not end as it should
	Results uint64 // events found or counted, hosts listed
	Sent    uint64 // bytes of records or text
	Took    time.Duration
	Exit    *int32 // of a command
}

// State is how a call stands, in a word.
type State string

// How a call ends, beside StateBegun.
const (
	StateBegun     State = "begun"
	StateComplete  State = "complete"
	StateDamaged   State = "damaged"   // complete, but for what the store has lost
	StateCancelled State = "cancelled" // by the caller, who may also be gone
	StateRefused   State = "refused"   // before anything was read
	StateCutOff    State = "cut-off"   // by the collector
	StateFailed    State = "failed"
)

// Good reports whether the caller got what was asked for, as far as it wanted it.
func (s State) Good() bool {
	return s == StateComplete || s == StateDamaged || s == StateCancelled || s == StateBegun
}

// Register adds the service to a server, with its calls watched.
func (w *Watch) Register(to grpc.ServiceRegistrar, service fleet.QueryServer) {
	desc := fleet.Query_ServiceDesc
	desc.Methods, desc.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i := range desc.Methods {
		m := &desc.Methods[i]
		name, handle := m.MethodName, m.Handler
		m.Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			x, err := w.begin(ctx, name)
			if err != nil {
				return nil, err
			}
			resp, err := handle(srv, within(ctx, x), func(m any) error {
				err := decode(m)
				if err == nil {
					x.asks(m)
				}
				return err
			}, interceptor)
			if err == nil {
				x.counts(resp)
			}
			x.end(ctx, err)
			return resp, err
		}
	}
	for i := range desc.Streams {
		st := &desc.Streams[i]
		name, handle := st.StreamName, st.Handler
		st.Handler = func(srv any, stream grpc.ServerStream) error {
			x, err := w.begin(stream.Context(), name)
			if err != nil {
				return err
			}
			err = handle(srv, &watchedStream{stream, within(stream.Context(), x), x})
			x.end(stream.Context(), err)
			return err
		}
	}
	to.RegisterService(&desc, service)
}

// Refused records a call that was refused before the service heard of it; method is its full
// name. Calls of other services are not recorded.
func (w *Watch) Refused(ctx context.Context, method string, err error) {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if service != fleet.Query_ServiceDesc.ServiceName {
		return
	}
	op := opOf(name)
	w.Record(&Asked{Who: whoOf(ctx), Op: op, Command: op, Bytes: len(op), State: StateRefused, Reason: status.Convert(err).Message()})
}

// Authorizer returns may, with what it refuses recorded.
func (w *Watch) Authorizer(may Authorizer) Authorizer { return watchedAuthorizer{may, w} }

// Close records the calls that are under way as cut off, and has later ones refused. It may be
// called again.
func (w *Watch) Close() {
	w.mu.Lock()
	w.closed = true
	running := w.running
	w.running = nil
	w.mu.Unlock()
	for x := range running {
		if !x.isNote() || !w.beside(x) {
			x.finish(StateCutOff, "the collector stops")
		}
	}
}

// begin notes a call that begins.
func (w *Watch) begin(ctx context.Context, name string) (*watched, error) {
	op := opOf(name)
	x := &watched{w: w, begun: time.Now(), quiet: name == "Status", asked: Asked{Who: whoOf(ctx), Op: op, Command: op, Bytes: len(op)}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, status.Error(codes.Unavailable, "the collector stops")
	}
	if w.running == nil {
		w.running = map[*watched]struct{}{}
	}
	w.running[x] = struct{}{}
	switch name {
	case "Search", "Tally", "Text", "Report":
		w.asks(&x.asked.Who)
	}
	if !x.quiet {
		x.timer = time.AfterFunc(longCall, x.beginning)
	}
	return x, nil
}

// opOf is the word for a call.
func opOf(name string) string {
	switch name {
	case "Tally":
		return "count"
	case "Text":
		return "search"
	}
	var op strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				op.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		op.WriteRune(r)
	}
	return op.String()
}

// watchedAuthorizer is an Authorizer whose refusals are recorded.
type watchedAuthorizer struct {
	Authorizer
	w *Watch
}

// Authorize implements Authorizer.
func (a watchedAuthorizer) Authorize(ctx context.Context, method string, who credentials.AuthInfo) error {
	err := a.Authorizer.Authorize(ctx, method, who)
	if err != nil {
		if _, ok := peer.FromContext(ctx); ok {
			a.w.Refused(ctx, method, err)
		}
	}
	return err
}
