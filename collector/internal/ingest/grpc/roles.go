package grpc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Register adds a service to those that are answered, after Serve and before Run. Callers need
// one of the roles that rolesOf says.
func (s *Server) Register(add func(rpc.ServiceRegistrar)) { add(s.rpc) }

// rolesOf are the roles one of which a call needs, none for a call that everybody may make; ok is false for a call that nobody
// may make.
func rolesOf(method string) (need []pki.Roles, ok bool) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch {
	case service == fleet.Ingest_ServiceDesc.ServiceName:
		return []pki.Roles{pki.Send}, true
	case method == fleet.Query_Import_FullMethodName: // of who may send, of its own records: peerInfo.OnlyHost
		return []pki.Roles{pki.Admin, pki.Send}, true
	case method == fleet.Query_Imports_FullMethodName:
		return []pki.Roles{pki.Read, pki.Send}, true
	case fleet.Changes(method):
		return []pki.Roles{pki.Admin}, true
	case service == fleet.Query_ServiceDesc.ServiceName:
		return []pki.Roles{pki.Read}, true
	case service == healthpb.Health_ServiceDesc.ServiceName:
		return nil, true
	}
	return nil, false
}

// OnlyHost is the host of which alone a peer may import records, and with list, of which it may list imports; "": of any.
func (p peerInfo) OnlyHost(list bool) string {
	if p.id.Roles.Has(pki.Admin) || list && p.id.Roles.Has(pki.Read) {
		return ""
	}
	return p.id.Name
}

// admit says whether the caller of a method may make the call. A call of the query service is ended
// when its caller is no longer allowed; of one that sends its session sees to that.
func (s *Server) admit(ctx context.Context, method string) (_ context.Context, done func(), err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, nil, status.Error(codes.Internal, "no peer")
	}
	info, ok := p.AuthInfo.(peerInfo)
	if !ok {
		return nil, nil, status.Error(codes.Unauthenticated, "no certificate")
	}
	need, ok := rolesOf(method)
	if !ok || len(need) > 0 && !slices.ContainsFunc(need, info.id.Roles.Has) {
		words := make([]string, len(need))
		for i, r := range need {
			words[i] = r.String()
		}
		err := fmt.Errorf("%s may not make this call: it takes the role %s, and its certificate has %s", info.id.Name, strings.Join(words, " or "), info.id.Roles)
		s.denied(info.conn, info.id.Name, "refused a call", err)
		return nil, nil, status.Error(codes.PermissionDenied, err.Error())
	}
	s.limit.used(info.conn)
	if !strings.HasPrefix(method, "/"+fleet.Query_ServiceDesc.ServiceName+"/") {
		return ctx, func() {}, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release, err := s.cfg.Trust.Hold(info.id, func(err error) {
		s.denied(info.conn, info.id.Name, "cut off a reader", err)
		cancel(err)
	})
	if err != nil {
		cancel(err)
		s.denied(info.conn, info.id.Name, "refused a call", err)
		return nil, nil, status.Error(codes.PermissionDenied, err.Error())
	}
	return ctx, func() { release(); cancel(nil) }, nil
}

func (s *Server) unary(ctx context.Context, req any, info *rpc.UnaryServerInfo, h rpc.UnaryHandler) (any, error) {
	ctx, done, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer done()
	return h(ctx, req)
}

// within is a stream in another context, whose answer is bounded.
type within struct {
	rpc.ServerStream
	ctx  context.Context
	most int64 // bytes of the answer; 0: no bound
	sent int64
}

// Context implements rpc.ServerStream.
func (w *within) Context() context.Context { return w.ctx }

// SendMsg implements rpc.ServerStream.
func (w *within) SendMsg(m any) error {
	if p, ok := m.(proto.Message); ok && w.most > 0 {
		if w.sent += int64(proto.Size(p)); w.sent > w.most {
			return status.Errorf(codes.ResourceExhausted, "the answer is cut off: it has more than %d bytes (max_answer at the collector); ask for less time or fewer hosts, one part after the other", w.most)
		}
	}
	return w.ServerStream.SendMsg(m)
}

func (s *Server) streaming(srv any, stream rpc.ServerStream, info *rpc.StreamServerInfo, h rpc.StreamHandler) error {
	ctx, done, err := s.admit(stream.Context(), info.FullMethod)
	if err != nil {
		if s.cfg.Refused != nil {
			s.cfg.Refused(stream.Context(), info.FullMethod, err)
		}
		return err
	}
	defer done()
	if ctx == stream.Context() {
		return h(srv, stream)
	}
	answer := &within{ServerStream: stream, ctx: ctx, most: s.limit.maxAnswer()}
	if info.FullMethod == fleet.Query_Follow_FullMethodName {
		answer.most = 0
	}
	return h(srv, answer)
}
