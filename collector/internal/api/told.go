package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Told implements fleet.QueryServer. What it hears the call's Watch records.
func (*Service) Told(stream grpc.ClientStreamingServer[fleet.ToldRequest, fleet.ToldResponse]) error {
	if callerOf(stream.Context()) != "" {
		return status.Error(codes.PermissionDenied, "it is for commands on the collector's own machine")
	}
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&fleet.ToldResponse{})
		}
		if err != nil {
			return err
		}
	}
}

// Telling tells a collector what a command does with its store.
type Telling struct {
	c      *Client
	stream grpc.ClientStreamingClient[fleet.ToldRequest, fleet.ToldResponse]
}

// Tell tells the collector that a command begins, in its words. The caller calls Ended.
func (c *Client) Tell(ctx context.Context, words []string) (*Telling, error) {
	stream, err := c.q.Told(ctx)
	if err != nil {
		return nil, c.failed(err)
	}
	req := &fleet.ToldRequest{}
	for _, w := range words {
		req.Words = append(req.Words, []byte(w))
	}
	if err := stream.Send(req); err != nil {
		return nil, c.failed(err)
	}
	return &Telling{c, stream}, nil
}

// Ended tells how the command has ended, with the exit code and what was wrong.
func (t *Telling) Ended(code int, messages string) error {
	err := t.stream.Send(&fleet.ToldRequest{Exit: &fleet.Exit{Code: int32(code), Messages: []byte(messages)}})
	if err != nil && !errors.Is(err, io.EOF) {
		return t.c.failed(err)
	}
	if _, err := t.stream.CloseAndRecv(); err != nil {
		return t.c.failed(err)
	}
	return nil
}
