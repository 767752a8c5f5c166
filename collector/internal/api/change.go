package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// ChangeHosts implements fleet.QueryServer.
func (s *Service) ChangeHosts(ctx context.Context, req *fleet.ChangeHostsRequest) (*fleet.ChangeHostsResponse, error) {
	if s.Change == nil {
		return nil, status.Error(codes.Unimplemented, "hosts can't be changed here")
	}
	c := &store.Change{Also: map[netip.Addr]string{}}
	for _, word := range req.GetForget() {
		c.Forget = append(c.Forget, string(word))
	}
	for _, r := range req.GetReattribute() {
		addr, err := netip.ParseAddr(r.GetAddress())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		c.Also[addr] = string(r.GetName())
	}
	names, err := s.Change(ctx, c)
	switch {
	case errors.Is(err, store.ErrNoHost):
		return nil, status.Error(codes.NotFound, err.Error())
	case err != nil:
		return nil, toStatus(err)
	}
	resp := &fleet.ChangeHostsResponse{}
	for _, name := range names {
		resp.Forgotten = append(resp.Forgotten, []byte(name))
	}
	return resp, nil
}

// ChangeHosts makes a change and returns the names of the hosts that were forgotten.
func (c *Client) ChangeHosts(ctx context.Context, change *store.Change) (forgotten []string, err error) {
	req := &fleet.ChangeHostsRequest{}
	for _, word := range change.Forget {
		req.Forget = append(req.Forget, []byte(word))
	}
	for addr, name := range change.Also {
		req.Reattribute = append(req.Reattribute, &fleet.Reattribution{Address: addr.String(), Name: []byte(name)})
	}
	resp, err := c.q.ChangeHosts(ctx, req)
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound:
		return nil, fmt.Errorf("%w%s", store.ErrNoHost, strings.TrimPrefix(status.Convert(err).Message(), store.ErrNoHost.Error()))
	case codes.Unimplemented:
		return nil, errors.New("the collector that runs is of an older version: it knows no changes of hosts")
	default:
		return nil, c.failed(err)
	}
	for _, name := range resp.GetForgotten() {
		forgotten = append(forgotten, string(name))
	}
	return forgotten, nil
}
