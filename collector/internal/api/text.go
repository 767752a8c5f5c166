package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Bounds of an answer in text, beside those of every call: its time, its bytes, the bytes of
// messages, and of one response. Who needs more runs the command.
const (
	textTime     = 10 * time.Minute
	textBytes    = 256 << 20
	textMessages = 64 << 10
	textPiece    = 256 << 10
)

// Command carries out a command line's words with src as the source. It writes what the
// command prints to out and errs, and returns its exit code. An error, which wraps ErrQuery,
// means that it has not begun. What it counts by value takes memory.
type Command func(ctx context.Context, src Source, memory *query.Memory, words []string, out, errs io.Writer) (code int, err error)

// Text implements fleet.QueryServer.
func (s *Service) Text(req *fleet.TextRequest, stream grpc.ServerStreamingServer[fleet.TextResponse]) error {
	return s.command(stream.Context(), req.GetVersion(), s.SearchText, req.GetWords(), func(text []byte, exit *fleet.Exit) error {
		return stream.Send(&fleet.TextResponse{Text: text, Exit: exit})
	})
}

// Report implements fleet.QueryServer.
func (s *Service) Report(req *fleet.ReportRequest, stream grpc.ServerStreamingServer[fleet.ReportResponse]) error {
	return s.command(stream.Context(), req.GetVersion(), s.ReportText, req.GetWords(), func(text []byte, exit *fleet.Exit) error {
		return stream.Send(&fleet.ReportResponse{Text: text, Exit: exit})
	})
}

// command runs a Command as a call: it sends the text as it is written, and at last the exit
// code with the messages.
func (s *Service) command(ctx context.Context, version uint32, command Command, words [][]byte, send func(text []byte, exit *fleet.Exit) error) error {
	return s.run(ctx, version, func(c *call) error {
		if command == nil {
			return status.Error(codes.Unimplemented, "nothing is printed here")
		}
		if len(words) > maxConditions {
			return fmt.Errorf("%w: %d words, %d is the most", ErrQuery, len(words), maxConditions)
		}
		args := make([]string, len(words))
		for i, w := range words {
			args[i] = string(w)
		}
		ctx, cancel := context.WithTimeoutCause(c.ctx, textTime, status.Errorf(codes.ResourceExhausted, "the answer took longer than %v: ask for less, or use the command line", textTime))
		defer cancel()
		out := &textOut{call: c, piece: func(text []byte) error { return send(text, nil) }}
		var errs messages
		ctx, lacking := NoteLacks(ctx) // instead of the call's: the text says it
		code, err := command(ctx, s.source(ctx), c.memory, args, out, &errs)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err == nil {
			err = out.err
		}
		if err != nil {
			return err
		}
		for _, l := range lacking() {
			fmt.Fprintln(&errs, l.Line("collector"))
			code = ExitLacking
		}
		return c.send(func() error { return send(nil, &fleet.Exit{Code: int32(code), Messages: errs.Bytes()}) })
	})
}

// textOut is a writer that sends what is written to it, in pieces.
type textOut struct {
	*call
	piece func(text []byte) error
	bytes int   // sent so far
	err   error // the first; nothing is sent after it
}

func (w *textOut) Write(text []byte) (n int, err error) {
	for len(text) > 0 && w.err == nil {
		one := bytes.Clone(text[:min(len(text), textPiece)]) // the stream may have it for longer
		if w.bytes += len(one); w.bytes > textBytes {
			w.err = status.Errorf(codes.ResourceExhausted, "the answer has more than %d MiB: ask for less, or use the command line", textBytes>>20)
			break
		}
		if w.err = w.send(func() error { return w.piece(one) }); w.err == nil {
			n, text = n+len(one), text[len(one):]
		}
	}
	return n, w.err
}

// messages collects what a command writes to standard error, up to textMessages bytes; the
// rest is dropped.
type messages struct{ bytes.Buffer }

func (m *messages) Write(text []byte) (int, error) {
	m.Buffer.Write(text[:min(len(text), textMessages-m.Len())])
	return len(text), nil
}
