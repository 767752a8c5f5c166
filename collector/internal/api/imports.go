package api

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Importer takes records of old logs.
type Importer interface {
	// BeginImport begins one, or with Dry what finds out what it would do. Only one runs at a time. Whoever gets the
	// sink calls its End or Interrupt. maxDays is for how many days all events are kept at least, 0 for ever. Errors: importing.ErrTurn.
	BeginImport(ctx context.Context, x Importing) (sink importing.Sink, maxDays int64, err error)
	// ListImports lists those that can be taken back; of a host that it has imported itself where host is not "".
	ListImports(ctx context.Context, host string) ([]importer.Summary, error)
	// UndoImport takes one back. Errors: store.ErrNoImport, store.ErrInUse.
	UndoImport(ctx context.Context, name, why string) (store.Undone, error)
}

// Importing is an import that is to begin.
type Importing struct {
	Name, By string
	Dry      bool
	// Host is the host whose records alone the caller may import; "": any.
	Host string
	// Stop has the caller end the import at once, for others' sake; nil: nobody is asked to. It may be called at any time.
	Stop func()
}

// ErrImport is returned for an import that can't be begun now, or not under this name.
var ErrImport = errors.New("the import can't be begun")

// knownAtOnce is how many known files a message has: some 150 bytes each.
const knownAtOnce = 1000

// Import implements fleet.QueryServer. What a caller has sent when its connection breaks is stored.
func (s *Service) Import(stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]) error {
	if s.Importer == nil {
		return status.Error(codes.Unimplemented, "nothing can be imported here")
	}
	ctx := stream.Context()
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	begin := req.GetBegin()
	switch {
	case begin == nil:
		return status.Error(codes.InvalidArgument, "the first message begins an import")
	case begin.GetVersion() != version:
		return status.Errorf(codes.InvalidArgument, "version %d of the protocol: this collector speaks %d", begin.GetVersion(), version)
	}
	x := Importing{Name: begin.GetName(), By: by(ctx), Dry: begin.GetDryRun(), Host: onlyHost(ctx, false)}
	stopped := make(chan struct{})
	x.Stop = sync.OnceFunc(func() { close(stopped) })
	sink, maxDays, err := s.Importer.BeginImport(ctx, x)
	if err != nil {
		return importStatus(err)
	}
	t := takenImport{stream: stream, sink: sink, requests: make(chan *fleet.ImportRequest), failed: make(chan error, 1)}
	sum, done, err := t.take(ctx, stopped, &fleet.ImportResponse{Begun: true, MaxDays: maxDays, Host: []byte(x.Host)})
	if !done {
		var ierr error
		sum, ierr = sink.Interrupt(context.WithoutCancel(ctx))
		if errors.Is(ierr, err) { // it ended the import, and is not said twice
			err = nil
		}
		err = errors.Join(err, ierr)
	}
	if t.stuck {
		return importStatus(err)
	}
	// Of an import that has failed, too: it says what is stored.
	if serr := stream.Send(&fleet.ImportResponse{Sum: importing.ToSum(sum)}); err == nil {
		err = serr
	}
	return importStatus(err)
}

// onlyHost is the host of which alone a caller may import records, and with list, of which it may list imports; "": of any.
func onlyHost(ctx context.Context, list bool) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if c, ok := p.AuthInfo.(interface{ OnlyHost(list bool) string }); ok {
		return c.OnlyHost(list)
	}
	return ""
}

// takenImport is an import that a caller sends.
type takenImport struct {
	stream   grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse]
	sink     importing.Sink
	requests chan *fleet.ImportRequest
	failed   chan error // why no more requests come
	stuck    bool       // a response is on its way yet: no other one can be sent
}

// send sends a response. It waits for a caller that takes none, but for no longer than the call lasts, or until it is stopped:
// such a caller would keep all others from importing.
func (t *takenImport) send(life context.Context, stopped <-chan struct{}, r *fleet.ImportResponse) (err error) {
	sent := make(chan error, 1)
	go func() { sent <- t.stream.Send(r) }() // ends with the call
	select {
	case err := <-sent:
		return err
	case <-stopped:
		err = importing.ErrTurn
	case <-life.Done():
		err = context.Cause(life)
	}
	select {
	case <-sent: //nolint:errcheck // that it was sent is all that counts: the stream says what failed
	default:
		t.stuck = true
	}
	return err
}

// receive hands requests over until the stream's end.
func (t *takenImport) receive(ctx context.Context) {
	for {
		req, err := t.stream.Recv()
		if err != nil {
			t.failed <- err
			return
		}
		select {
		case t.requests <- req:
		case <-ctx.Done(): // the connection broke while the sink was busy
			t.failed <- ctx.Err()
			return
		}
	}
}

// take takes what is sent until its end, or until it is stopped; done says that the sink was told to end.
func (t *takenImport) take(ctx context.Context, stopped <-chan struct{}, begun *fleet.ImportResponse) (sum importing.Sum, done bool, err error) {
	life := ctx
	ctx = context.WithoutCancel(ctx) // what was sent is taken
	known, err := t.sink.Known(ctx)
	if err != nil {
		return sum, false, err
	}
	for len(known) > knownAtOnce {
		if err := t.send(life, stopped, &fleet.ImportResponse{Known: importing.ToKnown(known[:knownAtOnce])}); err != nil {
			return sum, false, err
		}
		known = known[knownAtOnce:]
	}
	begun.Known = importing.ToKnown(known)
	if err := t.send(life, stopped, begun); err != nil {
		return sum, false, err
	}
	go t.receive(life) // ends with the call
	for {
		select {
		case <-stopped:
			return sum, false, fmt.Errorf("%w: what was read is stored", importing.ErrTurn)
		case err := <-t.failed:
			return sum, false, err
		case <-life.Done(): // its certificate may be revoked
			return sum, false, context.Cause(life)
		case req := <-t.requests:
			if end := req.GetEnd(); end != nil {
				f := t.sink.End
				if end.GetInterrupted() {
					f = t.sink.Interrupt
				}
				sum, err := f(ctx)
				return sum, true, err
			}
			if err := t.request(ctx, req); err != nil {
				return sum, false, err
			}
		}
	}
}

// request takes a part of an import.
func (t *takenImport) request(ctx context.Context, req *fleet.ImportRequest) error {
	switch x := req.GetWhat().(type) {
	case *fleet.ImportRequest_Skip:
		return t.sink.Skip(ctx, x.Skip)
	case *fleet.ImportRequest_File:
		return t.sink.File(ctx, importing.FromFile(x.File))
	case *fleet.ImportRequest_Chunk:
		c := x.Chunk
		return t.sink.Chunk(ctx, c.GetText(), c.GetEnd(), importing.FromContent(c.GetSize(), c.GetHead(), c.GetAll()))
	case *fleet.ImportRequest_FileEnd:
		c := x.FileEnd
		return t.sink.EndFile(ctx, importing.FromContent(c.GetSize(), c.GetHead(), c.GetAll()), c.GetWhole())
	}
	return status.Error(codes.InvalidArgument, "no part of an import")
}

func importStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoImport):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, importing.ErrTurn):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, ErrImport), errors.Is(err, importer.ErrFiles), errors.Is(err, importer.ErrHosts), errors.Is(err, store.ErrInUse), errors.Is(err, store.ErrImportName):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return toStatus(err)
}

// Imports implements fleet.QueryServer.
func (s *Service) Imports(ctx context.Context, _ *fleet.ImportsRequest) (*fleet.ImportsResponse, error) {
	if s.Importer == nil {
		return nil, status.Error(codes.Unimplemented, "nothing can be imported here")
	}
	list, err := s.Importer.ListImports(ctx, onlyHost(ctx, true))
	if err != nil {
		return nil, importStatus(err)
	}
	out := &fleet.ImportsResponse{}
	for i := range list {
		out.Imports = append(out.Imports, FromImport(&list[i]))
	}
	return out, nil
}

// FromImport returns an import as a message.
func FromImport(x *importer.Summary) *fleet.ImportDone {
	one := &fleet.ImportDone{Name: x.Name, Files: x.Files, Records: int64(x.Records), State: x.State(), Bytes: x.RawBytes, DiskBytes: x.DiskBytes, MinMs: x.MinMs, MaxMs: x.MaxMs, AtMs: x.At, By: x.By}
	for _, p := range x.Parts {
		one.Partitions = append(one.Partitions, p.String())
	}
	return one
}

// UndoImport implements fleet.QueryServer.
func (s *Service) UndoImport(ctx context.Context, req *fleet.UndoImportRequest) (*fleet.UndoImportResponse, error) {
	if s.Importer == nil {
		return nil, status.Error(codes.Unimplemented, "nothing can be imported here")
	}
	done, err := s.Importer.UndoImport(ctx, req.GetName(), WhyUndone(req.GetName(), string(req.GetReason()), by(ctx)))
	if err != nil {
		return nil, importStatus(err)
	}
	return FromUndone(done), nil
}

// FromUndone returns what was taken back as a message.
func FromUndone(x store.Undone) *fleet.UndoImportResponse {
	return &fleet.UndoImportResponse{Records: int64(x.Records), Stays: int64(x.Stays)}
}

// WhyUndone is what the log of the store says of an import that was taken back.
func WhyUndone(name, reason, by string) string {
	why := "import " + name + " was taken back: " + by
	if reason != "" {
		why += ": " + reason
	}
	return why
}

// Imports returns the imports of the collector.
func (c *Client) Imports() *importing.Client { return &importing.Client{Query: c.q, Failed: c.failed} }
