package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Sealer is the log of a store.
type Sealer interface {
	// Checkpoint returns the newest checkpoint, with sign a new one where anything changed, with the proof from
	// so many leaves on.
	Checkpoint(ctx context.Context, sign bool, from int64) (*fleet.CheckpointResponse, error)
	// AcceptLog has the log go on; reason says why and who.
	AcceptLog(ctx context.Context, reason string) (*fleet.CheckpointResponse, error)
}

// Checkpoint implements fleet.QueryServer.
func (s *Service) Checkpoint(ctx context.Context, req *fleet.CheckpointRequest) (*fleet.CheckpointResponse, error) {
	if s.Sealer == nil {
		return nil, status.Error(codes.Unimplemented, seal.ErrNoLog.Error())
	}
	sign := req.GetSign() && callerOf(ctx) == "" // what that stores first is not for strangers to ask for, again and again
	out, err := s.Sealer.Checkpoint(ctx, sign, req.GetFrom())
	return out, sealStatus(err)
}

// AcceptLog implements fleet.QueryServer.
func (s *Service) AcceptLog(ctx context.Context, req *fleet.AcceptLogRequest) (*fleet.AcceptLogResponse, error) {
	if s.Sealer == nil {
		return nil, status.Error(codes.Unimplemented, seal.ErrNoLog.Error())
	}
	reason := strings.TrimSpace(string(req.GetReason()))
	if reason == "" {
		return nil, status.Error(codes.InvalidArgument, "no reason is given: it stands in the log for good")
	}
	if err := seal.CheckReason(reason); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out, err := s.Sealer.AcceptLog(ctx, fmt.Sprintf("%s (%s)", reason, by(ctx)))
	if err != nil {
		return nil, sealStatus(err)
	}
	return &fleet.AcceptLogResponse{Checkpoint: out}, nil
}

// sealStatus returns an error of the log as a status.
func sealStatus(err error) error {
	switch {
	case errors.Is(err, seal.ErrNoKey), errors.Is(err, seal.ErrStopped), errors.Is(err, seal.ErrNoLog), errors.Is(err, seal.ErrNothing):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return toStatus(err)
}

// Checkpoint returns the newest checkpoint of a collector's log, and how it stands.
func (c *Client) Checkpoint(ctx context.Context, sign bool, from int64) (*fleet.CheckpointResponse, error) {
	out, err := c.q.Checkpoint(ctx, &fleet.CheckpointRequest{Sign: sign, From: from})
	return out, c.failedSeal(err)
}

// AcceptLog has a collector's log go on.
func (c *Client) AcceptLog(ctx context.Context, reason string) (*fleet.CheckpointResponse, error) {
	out, err := c.q.AcceptLog(ctx, &fleet.AcceptLogRequest{Reason: []byte(reason)})
	return out.GetCheckpoint(), c.failedSeal(err)
}

func (c *Client) failedSeal(err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.FailedPrecondition, codes.InvalidArgument:
		return errors.New(status.Convert(err).Message())
	case codes.Unimplemented:
		return errors.New("the collector that runs is of an older version: it keeps no log")
	}
	return c.failed(err)
}
