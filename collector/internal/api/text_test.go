package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// textOf gives all of an answer.
func textOf(t *testing.T, c *Client, words ...string) (text string, exit *fleet.Exit, err error) {
	t.Helper()
	req := &fleet.TextRequest{Version: version}
	for _, w := range words {
		req.Words = append(req.Words, []byte(w))
	}
	s, err := c.q.Text(t.Context(), req)
	for err == nil {
		var r *fleet.TextResponse
		if r, err = s.Recv(); err == nil {
			text += string(r.GetText())
			exit = r.GetExit()
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return text, exit, err
}

func TestText(t *testing.T) {
	long := strings.Repeat("line\n", textPiece/2)
	path := serveAs(t, &Service{SearchText: func(_ context.Context, _ Source, _ *query.Memory, words []string, out, errs io.Writer) (int, error) {
		if words[0] == "wrong" {
			return 1, fmt.Errorf("%w: wrong", ErrQuery)
		}
		if _, err := io.WriteString(out, long); err != nil {
			return 1, err
		}
		fmt.Fprint(errs, strings.Repeat("m", 2*textMessages))
		return 7, nil
	}}, Allowed{GID: -1})
	c := dial(t, path)
	text, exit, err := textOf(t, c, "some", "words\xff")
	if err != nil || text != long || exit.GetCode() != 7 || len(exit.GetMessages()) != textMessages {
		t.Errorf("%d bytes, exit %d with %d bytes of messages, %v", len(text), exit.GetCode(), len(exit.GetMessages()), err)
	}
	if _, _, err := textOf(t, c, "wrong"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("wrong words: %v", err)
	}
	if _, _, err := textOf(t, c, make([]string, maxConditions+1)...); status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many words: %v", err)
	}
	if s, err := c.q.Report(t.Context(), &fleet.ReportRequest{Version: version}); err == nil {
		if _, err := s.Recv(); status.Code(err) != codes.Unimplemented {
			t.Errorf("a report where there is none: %v", err)
		}
	}
}

// A text that is too long is ended, with what to do in the error.
func TestTextBounds(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	sent := 0
	out := &textOut{call: &call{ctx: ctx, end: end}, piece: func(text []byte) error { sent += len(text); return nil }}
	piece := make([]byte, 1<<20)
	for range textBytes>>20 + 1 {
		if _, err := out.Write(piece); err != nil {
			break
		}
	}
	if status.Code(out.err) != codes.ResourceExhausted || sent != textBytes || !strings.Contains(out.err.Error(), "ask for less") {
		t.Errorf("%d bytes were sent, %v", sent, out.err)
	}
}

// someCalls is an Authorizer that lets calls of one method through.
type someCalls struct {
	may   string
	mu    sync.Mutex // guards asked
	asked []string
}

func (s *someCalls) Authorize(_ context.Context, method string, who credentials.AuthInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, method)
	if _, ok := who.(*caller); !ok || !strings.HasSuffix(method, s.may) {
		return fmt.Errorf("%s is not yours: ask for a certificate that may", method)
	}
	return nil
}

// untouched is a source that must not be asked.
type untouched struct {
	Source
	t *testing.T
}

func (u untouched) Scan(context.Context, *query.Query, func(*event.Event) error) error {
	u.t.Error("a search began")
	return nil
}

func (u untouched) Coverage(context.Context, *fleet.CoverageRequest, func(*fleet.Coverage) error) error {
	u.t.Error("completeness was judged")
	return nil
}

func (u untouched) Hosts(context.Context) ([]*fleet.Host, error) {
	u.t.Error("hosts were listed")
	return nil, nil
}

// Every call of the service, a new one too, is refused by an Authorizer that says no, and
// before any of the call's work: also one without a request, or with one that is none.
func TestNoCallWithoutAuthorizer(t *testing.T) {
	may := &someCalls{may: "nothing"}
	work := func(context.Context, Source, *query.Memory, []string, io.Writer, io.Writer) (int, error) {
		t.Error("a command began")
		return 0, nil
	}
	c := dial(t, serveAs(t, &Service{
		Source: untouched{t: t}, SearchText: work, ReportText: work,
		State:  func() *fleet.StatusResponse { t.Error("the state was asked"); return nil },
		Change: func(context.Context, *store.Change) ([]string, error) { t.Error("hosts were changed"); return nil, nil },
	}, may))
	desc := fleet.Query_ServiceDesc
	var methods []string
	for _, m := range desc.Methods {
		methods = append(methods, m.MethodName)
	}
	for _, s := range desc.Streams {
		methods = append(methods, s.StreamName)
	}
	methods = append(methods, "NoSuchCall")
	for _, m := range methods {
		for _, request := range []proto.Message{nil, &fleet.StatusRequest{}, &fleet.SearchRequest{Version: version}, &fleet.TextRequest{Version: version, Words: [][]byte{{0xff}}}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+desc.ServiceName+"/"+m)
			if err != nil {
				t.Fatal(err)
			}
			if request != nil {
				_ = stream.SendMsg(request) // it may have been refused already
			}
			_ = stream.CloseSend()
			if err := stream.RecvMsg(&fleet.StatusResponse{}); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "ask for a certificate") {
				t.Errorf("%s, %v: %v", m, request, err)
			}
			cancel()
		}
	}
	if n := len(may.asked); n != 4*len(methods) {
		t.Errorf("asked %d times about %d calls", n, 4*len(methods))
	}
}

func TestAuthorizerIsAskedOncePerCall(t *testing.T) {
	may := &someCalls{may: "/Hosts"}
	c := dial(t, serveAs(t, &Service{Source: &fakeSource{}}, may))
	if _, err := c.Hosts(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrDenied) {
		t.Errorf("a call that is not allowed: %v", err)
	}
	err := c.Scan(t.Context(), &query.Query{}, nil)
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "ask for a certificate") {
		t.Errorf("a stream that is not allowed: %v", err)
	}
	if got := strings.Join(may.asked, " "); strings.Count(got, "/auditfleet.fleet.v1.Query/") != 3 {
		t.Errorf("asked about %s", got)
	}
}

func (u untouched) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return storetest.ScanText(ctx, u.Scan, q, fn)
}
