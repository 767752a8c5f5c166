package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Importer takes records of old logs.
type Importer interface {
	// BeginImport begins one, or with dry what finds out what it would do. Only one runs at a time. Whoever gets the
	// sink calls its End or Interrupt. maxDays is the collector's max_days, 0 for none.
	BeginImport(ctx context.Context, name, by string, dry bool) (sink importer.Sink, maxDays int64, err error)
	// ListImports lists those that can be taken back.
	ListImports(ctx context.Context) ([]importer.Summary, error)
	// UndoImport takes one back, and returns how many records are dropped. Errors: store.ErrNoImport, store.ErrInUse.
	UndoImport(ctx context.Context, name, why string) (records int64, err error)
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
	sink, maxDays, err := s.Importer.BeginImport(ctx, begin.GetName(), by(ctx), begin.GetDryRun())
	if err != nil {
		return importStatus(err)
	}
	sum, done, err := takeImport(ctx, stream, sink, maxDays)
	if !done {
		_, ierr := sink.Interrupt(context.WithoutCancel(ctx))
		return importStatus(errors.Join(err, ierr))
	}
	if err == nil {
		err = stream.Send(&fleet.ImportResponse{Sum: toImportSum(sum)})
	}
	return importStatus(err)
}

// takeImport takes what is sent until its end; done says that the sink was told to end.
func takeImport(ctx context.Context, stream grpc.BidiStreamingServer[fleet.ImportRequest, fleet.ImportResponse], sink importer.Sink, maxDays int64) (sum importer.Sum, done bool, err error) {
	ctx = context.WithoutCancel(ctx) // what was sent is taken
	known, err := sink.Known(ctx)
	if err != nil {
		return sum, false, err
	}
	for len(known) > knownAtOnce {
		if err := stream.Send(&fleet.ImportResponse{Known: toKnown(known[:knownAtOnce])}); err != nil {
			return sum, false, err
		}
		known = known[knownAtOnce:]
	}
	if err := stream.Send(&fleet.ImportResponse{Known: toKnown(known), Begun: true, MaxDays: maxDays}); err != nil {
		return sum, false, err
	}
	for {
		req, err := stream.Recv()
		if err != nil {
			return sum, false, err
		}
		switch x := req.GetWhat().(type) {
		case *fleet.ImportRequest_Skip:
			err = sink.Skip(ctx, x.Skip)
		case *fleet.ImportRequest_File:
			f := x.File
			err = sink.File(ctx, importer.FileBegin{Node: string(f.GetNode()), From: f.GetFrom(), Known: f.GetKnown(), At: fromKnown(f.GetAt())})
		case *fleet.ImportRequest_Chunk:
			c := x.Chunk
			err = sink.Chunk(ctx, c.GetText(), c.GetEnd(), content(c.GetSize(), c.GetHead(), c.GetAll()))
		case *fleet.ImportRequest_FileEnd:
			c := x.FileEnd
			err = sink.EndFile(ctx, content(c.GetSize(), c.GetHead(), c.GetAll()), c.GetWhole())
		case *fleet.ImportRequest_End:
			end := sink.End
			if x.End.GetInterrupted() {
				end = sink.Interrupt
			}
			sum, err := end(ctx)
			return sum, true, err
		default:
			return sum, false, status.Error(codes.InvalidArgument, "no part of an import")
		}
		if err != nil {
			return sum, false, err
		}
	}
}

// content of hashes that are none is no known file's.
func content(size int64, head, all []byte) (c oldlogs.Content) {
	c.Size = size
	copy(c.Head[:], head)
	copy(c.All[:], all)
	return c
}

func toKnown(list []importer.Known) (out []*fleet.ImportKnown) {
	for _, k := range list {
		out = append(out, &fleet.ImportKnown{Node: []byte(k.Node), Size: k.Size, Head: k.Head, All: k.All, End: k.End, Records: k.Records, Done: k.Done, Elsewhere: k.Elsewhere})
	}
	return out
}

func fromKnown(k *fleet.ImportKnown) importer.Known {
	return importer.Known{Node: string(k.GetNode()), Size: k.GetSize(), Head: k.GetHead(), All: k.GetAll(), End: k.GetEnd(), Records: k.GetRecords(), Done: k.GetDone(), Elsewhere: k.GetElsewhere()}
}

func toImportSum(s importer.Sum) *fleet.ImportSum {
	return &fleet.ImportSum{Files: s.Files, Records: s.Records, Stored: s.Stored, Skipped: s.Skipped}
}

func fromImportSum(s *fleet.ImportSum) importer.Sum {
	return importer.Sum{Files: s.GetFiles(), Records: s.GetRecords(), Stored: s.GetStored(), Skipped: s.GetSkipped()}
}

func importStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoImport):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, ErrImport), errors.Is(err, store.ErrInUse), errors.Is(err, store.ErrImportName):
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
	list, err := s.Importer.ListImports(ctx)
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
	n, err := s.Importer.UndoImport(ctx, req.GetName(), WhyUndone(req.GetName(), string(req.GetReason()), by(ctx)))
	if err != nil {
		return nil, importStatus(err)
	}
	return &fleet.UndoImportResponse{Records: n}, nil
}

// WhyUndone is what the log of the store says of an import that was taken back.
func WhyUndone(name, reason, by string) string {
	why := "import " + name + " was taken back: " + by
	if reason != "" {
		why += ": " + reason
	}
	return why
}

// Import is an import by a running collector: a Sink for importer.Read.
type Import struct {
	c      *Client
	stream grpc.BidiStreamingClient[fleet.ImportRequest, fleet.ImportResponse]
	stop   context.CancelFunc
	known  []importer.Known
	// MaxDays is the collector's max_days; 0: it keeps all.
	MaxDays int64
}

var _ importer.Sink = (*Import)(nil)

// BeginImport begins an import. The caller gives it to importer.Read, or calls Close.
func (c *Client) BeginImport(ctx context.Context, name string, dry bool, words []string) (*Import, error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // an import that is interrupted is ended in good order
	stream, err := c.q.Import(ctx)
	if err != nil {
		stop()
		return nil, c.failed(err)
	}
	i := &Import{c: c, stream: stream, stop: stop}
	begin := &fleet.ImportBegin{Version: version, Name: name, DryRun: dry}
	for _, w := range words {
		begin.Words = append(begin.Words, []byte(w))
	}
	err = i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Begin{Begin: begin}})
	for err == nil {
		var r *fleet.ImportResponse
		if r, err = stream.Recv(); err != nil {
			break
		}
		for _, k := range r.GetKnown() {
			i.known = append(i.known, fromKnown(k))
		}
		if i.MaxDays = r.GetMaxDays(); r.GetBegun() {
			return i, nil
		}
	}
	stop()
	return nil, c.failedImport(err)
}

func (c *Client) failedImport(err error) error {
	said := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.NotFound:
		return fmt.Errorf("%w%s", store.ErrNoImport, strings.TrimPrefix(said, store.ErrNoImport.Error()))
	case codes.FailedPrecondition:
		return errors.New(said)
	case codes.Unimplemented:
		return errors.New("the collector that runs is of an older version: it imports nothing")
	}
	return c.failed(err)
}

// send sends a message; what is wrong the collector says.
func (i *Import) send(req *fleet.ImportRequest) error {
	err := i.stream.Send(req)
	if errors.Is(err, io.EOF) {
		for err = nil; err == nil; {
			_, err = i.stream.Recv()
		}
	}
	if err != nil {
		return i.c.failedImport(err)
	}
	return nil
}

// Known implements importer.Sink.
func (i *Import) Known(context.Context) ([]importer.Known, error) { return i.known, nil }

// Skip implements importer.Sink.
func (i *Import) Skip(_ context.Context, records int64) error {
	return i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Skip{Skip: records}})
}

// File implements importer.Sink.
func (i *Import) File(_ context.Context, f importer.FileBegin) error {
	return i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_File{File: &fleet.ImportFile{Node: []byte(f.Node), From: f.From, Known: f.Known, At: toKnown([]importer.Known{f.At})[0]}}})
}

// Chunk implements importer.Sink.
func (i *Import) Chunk(_ context.Context, text []byte, end int64, at oldlogs.Content) error {
	return i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_Chunk{Chunk: &fleet.ImportChunk{Text: text, End: end, Size: at.Size, Head: at.Head[:], All: at.All[:]}}})
}

// EndFile implements importer.Sink.
func (i *Import) EndFile(_ context.Context, at oldlogs.Content, whole bool) error {
	return i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_FileEnd{FileEnd: &fleet.ImportFileEnd{Size: at.Size, Head: at.Head[:], All: at.All[:], Whole: whole}}})
}

// End implements importer.Sink.
func (i *Import) End(context.Context) (importer.Sum, error) { return i.end(false) }

// Interrupt implements importer.Sink.
func (i *Import) Interrupt(context.Context) (importer.Sum, error) { return i.end(true) }

func (i *Import) end(interrupted bool) (importer.Sum, error) {
	defer i.stop()
	if err := i.send(&fleet.ImportRequest{What: &fleet.ImportRequest_End{End: &fleet.ImportEnd{Interrupted: interrupted}}}); err != nil {
		return importer.Sum{}, err
	}
	r, err := i.stream.Recv()
	if err != nil {
		return importer.Sum{}, i.c.failedImport(err)
	}
	return fromImportSum(r.GetSum()), nil
}

// Close ends an import that was begun and not read.
func (i *Import) Close() error {
	i.stop()
	return nil
}

// Imports lists the imports that can be taken back.
func (c *Client) Imports(ctx context.Context) ([]*fleet.ImportDone, error) {
	r, err := c.q.Imports(ctx, &fleet.ImportsRequest{})
	if err != nil {
		return nil, c.failedImport(err)
	}
	return r.GetImports(), nil
}

// UndoImport takes an import back, and returns how many records are dropped.
func (c *Client) UndoImport(ctx context.Context, name, reason string) (int64, error) {
	r, err := c.q.UndoImport(ctx, &fleet.UndoImportRequest{Name: name, Reason: []byte(reason)})
	if err != nil {
		return 0, c.failedImport(err)
	}
	return r.GetRecords(), nil
}
