package remote

import (
	"errors"

	"github.com/auditfleet/auditfleet/proto/proxy"
)

// Some protocols that come to the wrong port have line ends in them: their first bytes would
// be stored as records.

// errTLS is a sender that speaks TLS where clear text is expected.
var errTLS = errors.New("it speaks TLS, and this port is for clear text: TLS is for the ports of listen_tls and grpc, or for this one with transport = tls")

// errProxyHeader is a stream that begins with a PROXY header: from a proxy that is none here,
// or a second one.
var errProxyHeader = errors.New("it begins with a PROXY header, which is believed once, and from the addresses in proxy_protocol_from (--proxy-protocol-from) only; " +
	"if this is your proxy, add its address there")

// otherProtocol says whether a stream that starts with b is of another protocol, or may be
// once there is more of it.
func otherProtocol(b []byte) (may bool, err error) {
	if isTLS(b) {
		return false, errTLS
	}
	header, may := proxy.Begins(b)
	if header {
		err = errProxyHeader
	}
	return may, err
}

// isTLS says whether a connection begins as TLS does: with a handshake record.
func isTLS(b []byte) bool { return len(b) >= 3 && b[0] == 0x16 && b[1] == 3 && b[2] <= 4 }
