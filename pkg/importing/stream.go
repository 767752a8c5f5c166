package importing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var (
	// ErrTurn is returned where another import is under way, or had to go before this one: begun again later, it goes
	// on where it was.
	ErrTurn = errors.New("another import's turn")
	// ErrNone is returned for an import that is not there.
	ErrNone = errors.New("no such import can be taken back")
	// ErrOlder is returned by a collector that knows no imports.
	ErrOlder = errors.New("the collector that runs is of an older version: it imports nothing")
)

// Client asks a collector that runs.
type Client struct {
	Query fleet.QueryClient
	// Failed words what went wrong with a call that Client has no words for.
	Failed func(err error) error
}

// Stream is an import by a collector that runs: a Sink for Read. One goroutine uses it.
type Stream struct {
	c      *Client
	stream grpc.BidiStreamingClient[fleet.ImportRequest, fleet.ImportResponse]
	stop   context.CancelFunc
	known  []Known
	sum    *Sum // the last that was said
	// MaxDays is for how many days the collector keeps all events at least; 0: for ever.
	MaxDays int64
	// Host is the host whose records alone the caller may import; "": any.
	Host string
}

var _ Sink = (*Stream)(nil)

// Begin begins an import. The caller gives it to Read, or calls Interrupt. words are the command's, for who asks later
// what was done.
func (c *Client) Begin(ctx context.Context, name string, dry bool, words []string) (*Stream, error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // an import that is interrupted is ended in good order
	stream, err := c.Query.Import(ctx)
	if err != nil {
		stop()
		return nil, c.failed(err)
	}
	s := &Stream{c: c, stream: stream, stop: stop}
	begin := &fleet.ImportBegin{Version: fleet.QueryVersion, Name: name, DryRun: dry}
	for _, w := range words {
		begin.Words = append(begin.Words, []byte(w))
	}
	err = s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Begin{Begin: begin}})
	for err == nil {
		var r *fleet.ImportResponse
		if r, err = stream.Recv(); err != nil {
			err = c.failed(err)
			break
		}
		for _, k := range r.GetKnown() {
			s.known = append(s.known, fromKnown(k))
		}
		if s.MaxDays, s.Host = r.GetMaxDays(), string(r.GetHost()); r.GetBegun() {
			return s, nil
		}
	}
	stop()
	return nil, err
}

// Started is what a Target's BeginImport returns of what Begin does.
func (c *Client) Started(s *Stream, err error) (sink Sink, host string, maxDays int64, _ error) {
	if err != nil {
		return nil, "", 0, err
	}
	return s, s.Host, s.MaxDays, nil
}

// failed is what a call's error means.
func (c *Client) failed(err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.NotFound:
		return fmt.Errorf("%w%s", ErrNone, strings.TrimPrefix(st.Message(), ErrNone.Error()))
	case codes.FailedPrecondition:
		return errors.New(st.Message())
	case codes.Aborted:
		return fmt.Errorf("%w%s", ErrTurn, strings.TrimPrefix(st.Message(), ErrTurn.Error()))
	case codes.Unimplemented:
		return ErrOlder
	}
	return c.Failed(err)
}

// send sends a message; what is wrong the collector says.
func (s *Stream) send(req *fleet.ImportRequest) error {
	err := s.stream.Send(req)
	if !errors.Is(err, io.EOF) {
		if err != nil {
			err = s.c.failed(err)
		}
		return err
	}
	for {
		err := s.receive()
		if errors.Is(err, io.EOF) {
			return errors.New("the collector has ended the import")
		}
		if err != nil {
			return err
		}
	}
}

// receive takes one answer; io.EOF at the end of a call that went well.
func (s *Stream) receive() error {
	r, err := s.stream.Recv()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return s.c.failed(err)
	}
	if x := r.GetSum(); x != nil {
		s.sum = &Sum{Files: x.GetFiles(), Records: x.GetRecords(), Stored: x.GetStored(), Skipped: x.GetSkipped(), Claims: x.GetClaims()}
	}
	return nil
}

// Known implements Sink.
func (s *Stream) Known(context.Context) ([]Known, error) { return s.known, nil }

// Skip implements Sink.
func (s *Stream) Skip(_ context.Context, records int64) error {
	return s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Skip{Skip: records}})
}

// File implements Sink.
func (s *Stream) File(_ context.Context, f FileBegin) error {
	return s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_File{File: &fleet.ImportFile{Node: []byte(f.Node), From: f.From, Known: f.Known, At: toKnown(f.At)}}})
}

// Chunk implements Sink.
func (s *Stream) Chunk(_ context.Context, text []byte, end int64, at oldlogs.Content) error {
	return s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Chunk{Chunk: &fleet.ImportChunk{Text: text, End: end, Size: at.Size, Head: at.Head[:], All: at.All[:]}}})
}

// EndFile implements Sink.
func (s *Stream) EndFile(_ context.Context, at oldlogs.Content, whole bool) error {
	return s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_FileEnd{FileEnd: &fleet.ImportFileEnd{Size: at.Size, Head: at.Head[:], All: at.All[:], Whole: whole}}})
}

// End implements Sink.
func (s *Stream) End(context.Context) (Sum, error) { return s.end(false) }

// Interrupt implements Sink.
func (s *Stream) Interrupt(context.Context) (Sum, error) { return s.end(true) }

// end ends the import. Where it has failed, the sum is what the collector says that it has stored; ErrUnknown, too,
// where it said nothing.
func (s *Stream) end(interrupted bool) (Sum, error) {
	defer s.stop()
	err := s.send(&fleet.ImportRequest{What: &fleet.ImportRequest_End{End: &fleet.ImportEnd{Interrupted: interrupted}}})
	for err == nil { // what is wrong comes behind the sum
		err = s.receive()
	}
	if errors.Is(err, io.EOF) && s.sum != nil {
		return *s.sum, nil
	}
	if s.sum == nil {
		return Sum{}, fmt.Errorf("%w; %w", err, ErrUnknown)
	}
	return *s.sum, err
}

// ListImports lists the imports that can be taken back.
func (c *Client) ListImports(ctx context.Context) ([]*fleet.ImportDone, error) {
	r, err := c.Query.Imports(ctx, &fleet.ImportsRequest{})
	if err != nil {
		return nil, c.failed(err)
	}
	return r.GetImports(), nil
}

// UndoImport takes an import back.
func (c *Client) UndoImport(ctx context.Context, name, reason string) (*fleet.UndoImportResponse, error) {
	r, err := c.Query.UndoImport(ctx, &fleet.UndoImportRequest{Name: name, Reason: []byte(reason)})
	if err != nil {
		return nil, c.failed(err)
	}
	return r, nil
}

func toKnown(k Known) *fleet.ImportKnown {
	return &fleet.ImportKnown{Node: []byte(k.Node), Size: k.Size, Head: k.Head, All: k.All, End: k.End, Records: k.Records, Done: k.Done, Elsewhere: k.Elsewhere}
}

// ToKnown returns files as messages.
func ToKnown(list []Known) (out []*fleet.ImportKnown) {
	for _, k := range list {
		out = append(out, toKnown(k))
	}
	return out
}

func fromKnown(k *fleet.ImportKnown) Known {
	return Known{Node: string(k.GetNode()), Size: k.GetSize(), Head: k.GetHead(), All: k.GetAll(), End: k.GetEnd(), Records: k.GetRecords(), Done: k.GetDone(), Elsewhere: k.GetElsewhere()}
}

// FromFile returns the beginning of a file from its message.
func FromFile(f *fleet.ImportFile) FileBegin {
	return FileBegin{Node: string(f.GetNode()), From: f.GetFrom(), Known: f.GetKnown(), At: fromKnown(f.GetAt())}
}

// FromContent returns what a message says of content; hashes that are none are no known file's.
func FromContent(size int64, head, all []byte) (c oldlogs.Content) {
	c.Size = size
	copy(c.Head[:], head)
	copy(c.All[:], all)
	return c
}

// ToSum returns a sum as a message.
func ToSum(s Sum) *fleet.ImportSum {
	return &fleet.ImportSum{Files: s.Files, Records: s.Records, Stored: s.Stored, Skipped: s.Skipped, Claims: s.Claims}
}
