package api

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// ErrNoCollector is returned for the name of a collector that is none of the cluster's, or of several.
var ErrNoCollector = errors.New("no such collector")

// Cluster is the list of the collectors that keep their events in one cluster.
type Cluster interface {
	// Collectors returns all of them, by name.
	Collectors(ctx context.Context) ([]*fleet.Collector, error)
	// Forget makes one that is silent one that is gone for good, and returns which hosts' records only it had. Errors: ErrNoCollector.
	Forget(ctx context.Context, name string) (*fleet.Collector, []*fleet.HostLoss, error)
}

// ForgetCollector implements fleet.QueryServer.
func (s *Service) ForgetCollector(ctx context.Context, req *fleet.ForgetCollectorRequest) (*fleet.ForgetCollectorResponse, error) {
	if s.Cluster == nil {
		return nil, status.Error(codes.FailedPrecondition, "this collector keeps its events in its own folder, and knows no others")
	}
	one, losses, err := s.Cluster.Forget(ctx, req.GetName())
	switch {
	case errors.Is(err, ErrNoCollector):
		return nil, status.Error(codes.NotFound, err.Error())
	case err != nil:
		return nil, toStatus(err)
	}
	return &fleet.ForgetCollectorResponse{Collector: one, Losses: losses}, nil
}

// ForgetCollector says that a collector of the cluster is gone for good, and returns which hosts' records only it had.
func (c *Client) ForgetCollector(ctx context.Context, name string) (*fleet.Collector, []*fleet.HostLoss, error) {
	resp, err := c.q.ForgetCollector(ctx, &fleet.ForgetCollectorRequest{Name: name})
	switch status.Code(err) {
	case codes.OK:
		return resp.GetCollector(), resp.GetLosses(), nil
	case codes.NotFound, codes.FailedPrecondition:
		return nil, nil, fmt.Errorf("%w: %s", ErrNoCollector, status.Convert(err).Message())
	}
	return nil, nil, c.failed(err)
}
