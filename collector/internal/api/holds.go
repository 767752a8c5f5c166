package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Holder lists and changes what is on hold.
type Holder interface {
	Holds(ctx context.Context) (*fleet.HoldsResponse, error)
	ChangeHolds(ctx context.Context, c hold.Change) ([]hold.Done, error)
}

// Holds implements fleet.QueryServer.
func (s *Service) Holds(ctx context.Context, _ *fleet.HoldsRequest) (*fleet.HoldsResponse, error) {
	if s.Holder == nil {
		return nil, status.Error(codes.Unimplemented, "nothing can be put on hold here")
	}
	out, err := s.Holder.Holds(ctx)
	return out, toStatus(err)
}

// ChangeHolds implements fleet.QueryServer.
func (s *Service) ChangeHolds(ctx context.Context, req *fleet.ChangeHoldsRequest) (*fleet.ChangeHoldsResponse, error) {
	if s.Holder == nil {
		return nil, status.Error(codes.Unimplemented, "nothing can be put on hold here")
	}
	c := hold.Change{Add: texts(req.GetAdd()), Remove: texts(req.GetRemove()), All: req.GetAll(), Reason: string(req.GetReason()), By: by(ctx)}
	done, err := s.Holder.ChangeHolds(ctx, c)
	switch {
	case errors.Is(err, hold.ErrNoHold):
		return nil, status.Error(codes.NotFound, err.Error())
	case errors.Is(err, hold.ErrWords):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, toStatus(err)
	}
	out := &fleet.ChangeHoldsResponse{}
	for _, d := range done {
		out.Done = append(out.Done, &fleet.HoldDone{Op: d.Op, What: []byte(d.What)})
	}
	return out, nil
}

func texts(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

// by returns who makes a call, as the fields of a record.
func by(ctx context.Context) string {
	if name := callerOf(ctx); name != "" {
		return fmt.Sprintf("auid=-1 pid=-1 name=%q", name)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if c, ok := p.AuthInfo.(*caller); ok {
			return fmt.Sprintf("auid=%s uid=%d pid=%d", daemonrec.ProcessID(fmt.Sprint(c.Pid), "loginuid"), c.Uid, c.Pid)
		}
	}
	return "auid=-1 pid=-1"
}

// Holds lists what is on hold.
func (c *Client) Holds(ctx context.Context) (*fleet.HoldsResponse, error) {
	resp, err := c.q.Holds(ctx, &fleet.HoldsRequest{})
	if err != nil {
		return nil, c.failedHolds(err)
	}
	return resp, nil
}

// ChangeHolds makes a change and returns what it did; the collector knows who asks.
func (c *Client) ChangeHolds(ctx context.Context, ch hold.Change) (done []hold.Done, err error) {
	req := &fleet.ChangeHoldsRequest{All: ch.All, Reason: []byte(ch.Reason)}
	for _, w := range ch.Add {
		req.Add = append(req.Add, []byte(w))
	}
	for _, w := range ch.Remove {
		req.Remove = append(req.Remove, []byte(w))
	}
	resp, err := c.q.ChangeHolds(ctx, req)
	if err != nil {
		return nil, c.failedHolds(err)
	}
	for _, d := range resp.GetDone() {
		done = append(done, hold.Done{Op: d.GetOp(), What: string(d.GetWhat()), Reason: ch.Reason, At: time.Now()})
	}
	return done, nil
}

func (c *Client) failedHolds(err error) error {
	said := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.NotFound:
		return fmt.Errorf("%w%s", hold.ErrNoHold, strings.TrimPrefix(said, hold.ErrNoHold.Error()))
	case codes.InvalidArgument:
		return fmt.Errorf("%w%s", hold.ErrWords, strings.TrimPrefix(said, hold.ErrWords.Error()))
	case codes.Unimplemented:
		return errors.New("the collector that runs is of an older version: it knows no holds, and would drop what is on hold")
	}
	return c.failed(err)
}
