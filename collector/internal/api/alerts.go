package api

import (
	"context"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Alerts implements fleet.QueryServer.
func (s *Service) Alerts(ctx context.Context, _ *fleet.AlertsRequest) (*fleet.AlertsResponse, error) {
	if s.ListAlerts == nil {
		return s.UnimplementedQueryServer.Alerts(ctx, nil)
	}
	return s.ListAlerts(), nil
}

// TestAlert implements fleet.QueryServer.
func (s *Service) TestAlert(ctx context.Context, req *fleet.TestAlertRequest) (*fleet.TestAlertResponse, error) {
	if s.SendTest == nil {
		return s.UnimplementedQueryServer.TestAlert(ctx, nil)
	}
	tests, err := s.SendTest(ctx, req.GetSink())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleet.TestAlertResponse{Tests: tests}, nil
}

// Alerts lists a collector's alerts, the conditions as they are set, and the sinks.
func (c *Client) Alerts(ctx context.Context) (*fleet.AlertsResponse, error) {
	resp, err := c.q.Alerts(ctx, &fleet.AlertsRequest{})
	if err != nil {
		return nil, c.failed(err)
	}
	return resp, nil
}

// TestAlert sends a test through a sink, or through all where sink is "".
func (c *Client) TestAlert(ctx context.Context, sink string) ([]*fleet.AlertTest, error) {
	resp, err := c.q.TestAlert(ctx, &fleet.TestAlertRequest{Sink: sink})
	if err != nil {
		return nil, c.failed(err)
	}
	return resp.GetTests(), nil
}
