package event

import "net/netip"

// Sender identifies the sender of an event's records by what the collector itself knows;
// the content of the records does not count. Two equal Senders are the same sender.
type Sender struct {
	// Host is the name that the sender has proved; "" if it has proved none.
	Host string
	// Addr is the address from which the sender's connection came, without a zone and not
	// as an IPv4 address mapped into IPv6. It is invalid for the collector itself.
	Addr      netip.Addr
	Transport Transport
}

// Transport is the way by which records arrived. The numbers are stored: only append new
// ones.
type Transport uint8

// The transports.
const (
	TransportUnknown Transport = iota
	TransportOwn               // the collector's own records
	TransportTCP               // audisp-remote's protocol, in clear text
	TransportGRPC              // our own service, over TLS with certificates
	TransportTLS               // audisp-remote's protocol, over TLS with certificates
	TransportPSK               // audisp-remote's protocol, over TLS with a pre-shared key
)

// String returns the transport's name.
func (t Transport) String() string {
	switch t {
	case TransportOwn:
		return "own"
	case TransportTCP:
		return "tcp"
	case TransportGRPC:
		return "grpc"
	case TransportTLS:
		return "tls"
	case TransportPSK:
		return "psk"
	default:
		return "unknown"
	}
}

// SenderAddr returns a connection's address in the form that Sender.Addr has.
func SenderAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
