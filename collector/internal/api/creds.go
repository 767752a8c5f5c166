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
	"google.golang.org/grpc/tap"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Authorizer decides who may make a call.
type Authorizer interface {
	// Authorize returns nil when the call may be made. It is called once for each call, before
	// anything is read of the request. It must not wait for long: no other call of the
	// connection begins or goes on meanwhile. method is the call's full name
	// ("/auditfleet.fleet.v1.Query/Search"), who is what the transport's handshake found out
	// about the caller. The caller gets the error's text, which says what to do. Several
	// goroutines may call it.
	Authorize(ctx context.Context, method string, who credentials.AuthInfo) error
}

// ServerOptions returns the options of a gRPC server: handshake finds out who is calling, may
// decides which calls are answered. They bound requests and the calls of a connection, too.
func ServerOptions(handshake credentials.TransportCredentials, may Authorizer) []grpc.ServerOption {
	check := func(ctx context.Context, call *tap.Info) (context.Context, error) {
		p, ok := peer.FromContext(ctx)
		if !ok {
			return ctx, status.Error(codes.PermissionDenied, "no caller")
		}
		if err := may.Authorize(ctx, call.FullMethodName, p.AuthInfo); err != nil {
			return ctx, status.Error(codes.PermissionDenied, err.Error())
		}
		return ctx, nil
	}
	return []grpc.ServerOption{
		grpc.Creds(handshake),
		grpc.MaxRecvMsgSize(1 << 20),
		grpc.WriteBufferSize(256 << 10), // a piece of an answer in one write
		grpc.ForceServerCodecV2(fleet.Codec{}),
		grpc.MaxConcurrentStreams(64),
		grpc.InTapHandle(check), // interceptors are called once a request is there and was unpacked
	}
}

// Allowed lets root, the collector's own user and a group ask over the unix socket. It is
// both the transport's credentials, whose handshake asks the kernel who is calling, and the
// Authorizer for such callers, who may make every call. The socket's mode keeps others out as
// well; Allowed holds also when somebody changes the mode.
type Allowed struct {
	GID int // the group; -1 for none
}

// caller is the process at the other end of a unix socket, as the kernel knows it.
type caller struct {
	unix.Ucred
	groups []uint32
	who    Who
}

// AuthType implements credentials.AuthInfo.
func (*caller) AuthType() string { return "unix peer" }

// Authorize implements Authorizer. The group may ask, and change nothing: who may read must not be able to
// take a host off the list or off hold.
func (a Allowed) Authorize(_ context.Context, method string, who credentials.AuthInfo) error {
	c, ok := who.(*caller)
	if !ok {
		return errors.New("not a caller on the unix socket")
	}
	if a.allows(&c.Ucred, c.groups) && fleet.Changes(method) && !owns(&c.Ucred) {
		return fmt.Errorf("uid %d may ask this collector, and change nothing: root and its own user may", c.Uid)
	}
	if !a.allows(&c.Ucred, c.groups) {
		return fmt.Errorf("uid %d may not ask this collector: root, its own user and its socket's group (api_group) may", c.Uid)
	}
	return nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (Allowed) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
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
	return conn, &caller{*cred, groups, process(cred.Pid, cred.Uid)}, nil
}

// owns reports whether a process with these credentials has the store anyway.
func owns(cred *unix.Ucred) bool { return cred.Uid == 0 || int(cred.Uid) == os.Geteuid() }

// allows reports whether a process with these credentials may ask.
func (a Allowed) allows(cred *unix.Ucred, groups []uint32) bool {
	if owns(cred) {
		return true
	}
	return a.GID >= 0 && (int(cred.Gid) == a.GID || slices.Contains(groups, uint32(a.GID)))
}

// peerGroups returns the caller's supplementary groups; none when the kernel does not tell.
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
