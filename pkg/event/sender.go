package event

import "net/netip"

// Sender is who sent an event's records to a collector, as the collector knows it,
// whatever the records say. Two are the same when they are equal.
type Sender struct {
	// Host is the name that the sender has proved; "" where nothing proves one.
	Host string
	// Addr is where its connection came from: without a zone, and not an IPv4
	// address mapped into IPv6. Not valid: the collector itself.
	Addr      netip.Addr
	Transport Transport
}

// Transport is how records came. The numbers are stored: only append.
type Transport uint8

// The transports.
const (
	TransportUnknown Transport = iota
	TransportOwn               // the collector's own records
	TransportTCP               // audisp-remote's protocol, in clear text
)

// String is the transport as it is written for programs.
func (t Transport) String() string {
	switch t {
	case TransportOwn:
		return "own"
	case TransportTCP:
		return "tcp"
	default:
		return "unknown"
	}
}

// SenderAddr is a connection's address as Sender has it.
func SenderAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
