package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Allowed are those who may ask over the unix socket, beside root and the
// collector's own user.
type Allowed struct {
	GID int // a group; -1 is none
}

// ServerOptions make a gRPC server for a unix socket that asks the kernel who
// is calling and answers only those allowed. The socket's mode keeps others out
// as well; this holds when somebody changes that.
func (a Allowed) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(a),
		grpc.MaxRecvMsgSize(1 << 20),
		grpc.MaxConcurrentStreams(64),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return h(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := check(ss.Context()); err != nil {
				return err
			}
			return h(srv, ss)
		}),
	}
}

// caller is who is at the other end of a unix socket.
type caller struct {
	uid     uint32
	allowed bool
}

// AuthType implements credentials.AuthInfo.
func (caller) AuthType() string { return "unix peer" }

func check(ctx context.Context) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "no caller")
	}
	c, ok := p.AuthInfo.(caller)
	if !ok || !c.allowed {
		return status.Errorf(codes.PermissionDenied, "uid %d may not ask this collector", c.uid)
	}
	return nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (a Allowed) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	uc, ok := conn.(syscall.Conn)
	if !ok || conn.LocalAddr().Network() != "unix" {
		return nil, nil, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr error
	err = raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			groups = peerGroups(int(fd))
		}
	})
	if err = errors.Join(err, credErr); err != nil {
		return nil, nil, fmt.Errorf("ask who is calling: %w", err)
	}
	return conn, caller{uid: cred.Uid, allowed: a.allows(cred, groups)}, nil
}

func (a Allowed) allows(cred *unix.Ucred, groups []uint32) bool {
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
		return true
	}
	return a.GID >= 0 && (int(cred.Gid) == a.GID || slices.Contains(groups, uint32(a.GID)))
}

// peerGroups are the caller's supplementary groups, none when the kernel does
// not say.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 256)
	size := uint32(4 * len(groups))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:size/4]
}

// ClientHandshake implements credentials.TransportCredentials.
func (Allowed) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("for servers only")
}

// Info implements credentials.TransportCredentials.
func (Allowed) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix peer"}
}

// Clone implements credentials.TransportCredentials.
func (a Allowed) Clone() credentials.TransportCredentials { return a }

// OverrideServerName implements credentials.TransportCredentials.
func (Allowed) OverrideServerName(string) error { return nil }
