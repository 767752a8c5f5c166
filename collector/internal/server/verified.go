package server

import (
	"context"

	ingestgrpc "github.com/auditfleet/auditfleet/collector/internal/ingest/grpc"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// listenVerified binds the addresses of the Ingest service, where there are any. They are
// served once there is an intake.
func (s *Server) listenVerified() (err error) {
	counters := metrics.NewGRPC(s.reg, ingestgrpc.Reasons()...)
	if len(s.cfg.GRPC) == 0 {
		return nil
	}
	var enroll ingestgrpc.Enroller // not a nil pointer in it
	if s.enrol != nil {
		enroll = s.enrol
	}
	s.verified, err = ingestgrpc.Listen(ingestgrpc.Config{
		Enroll: enroll,
		Addrs:  s.cfg.GRPC, Trust: s.trust, Limits: s.grpcLimits(s.cfg.Limits.MaxConns),
		Log: s.cfg.Log.Named("grpc"), Metrics: counters, Now: s.cfg.Now,
		Report: func(r ingestgrpc.Report) {
			if r.Op == ingestgrpc.OpTwins {
				s.head.Twins(r.Name)
				s.own.TwoHosts(r.Name, r.Peer.Addr(), r.Other)
				return
			}
			if r.Op != "" {
				s.refused(r.Peer, r.Name, r.Op)
				return
			}
			s.connection(listen.Report{Close: r.Close, Peer: r.Peer})
		},
		Refused: func(ctx context.Context, method string, err error) { s.watch.Refused(ctx, method, err) },
		Begun:   func(b ingestgrpc.Session) { s.own.Session(b.Peer, b.Local, b.Name, b.TLS) },
	})
	if err != nil {
		return err
	}
	s.transports = append(s.transports, s.verified)
	return nil
}

// grpcLimits are those of connections by gRPC, of which there may be so many.
func (s *Server) grpcLimits(conns int) ingestgrpc.Limits {
	return ingestgrpc.Limits{MaxConns: conns, MaxPerAddr: s.cfg.GRPCPerAddr, Proxy: proxiesOf(s.cfg.TLSProxies), MaxInFlight: s.cfg.MaxInFlight, MaxAnswer: s.cfg.MaxAnswer}
}
